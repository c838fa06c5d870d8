//! Which core a side runs on. The rows between two processes give each its own, or both the same one.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::contestant::Failure;

/// Carries the two sides' cores to all processes of a contestant: `"0,1"`. Absent: the scheduler decides.
pub(crate) const VARIABLE: &str = "BENCH_CORES";

/// Where the two sides of a row run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Wherever the scheduler puts them.
    Anywhere,
    /// Each on a core of its own.
    Apart,
    /// Both on one core.
    Together,
}

/// The variable's value for a row; `None` where nothing is to be pinned, or there are not enough cores.
pub(crate) fn variable(place: Place) -> Option<String> {
    let (first, second) = match place {
        Place::Anywhere => return None,
        Place::Together => (*allowed().first()?, *allowed().first()?),
        Place::Apart => pair()?,
    };
    Some(format!("{first},{second}"))
}

/// Pins the measuring side: this thread, and all that it starts from here on.
pub(crate) fn pin_first() -> Result<(), Failure> {
    pin(0)
}

/// Pins the other side.
pub(crate) fn pin_second() -> Result<(), Failure> {
    pin(1)
}

fn pin(side: usize) -> Result<(), Failure> {
    let Ok(cores) = std::env::var(VARIABLE) else { return Ok(()) };
    pin_to(cores.split(',').nth(side).ok_or(format!("{VARIABLE} names two cores"))?.parse()?)
}

/// Pins this thread, and all that it starts from here on.
pub(crate) fn pin_to(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Two cores that share nothing but memory; `None` where there is only one.
pub(crate) fn pair() -> Option<(usize, usize)> {
    let allowed = allowed();
    let first = *allowed.first()?;
    let siblings = siblings(first);
    let another = allowed.iter().find(|core| !siblings.contains(core)).or(allowed.get(1))?;
    Some((first, *another))
}

fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// The hardware threads that share this one's core.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        Some(from.parse::<usize>().ok()?..=to.parse().ok()?)
    });
    ranges.flatten().collect()
}
