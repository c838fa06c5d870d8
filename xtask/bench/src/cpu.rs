//! CPU time of this process and of all below it, living, ended and waited for.
//!
//! What another process has waited for is known in ticks of 10 ms only; all else in nanoseconds.
#![expect(unsafe_code, reason = "the clock of another process and getrusage are not in rustix")]

use std::fs;
use std::mem::MaybeUninit;

/// Nanoseconds up to now; `None` where the kernel does not list a process's children.
pub(crate) fn used() -> Option<u64> {
    let mut living = 0;
    let mut processes = children_of("self")?;
    while let Some(pid) = processes.pop() {
        living += clock_of(pid).unwrap_or(0) + waited_for_by(pid).unwrap_or(0);
        processes.extend(children_of(&pid.to_string()).unwrap_or_default());
    }
    let own = clock_of(0)?;
    Some(own + living + waited_for())
}

/// The processes that all threads of `pid` have started and nobody has waited for.
pub(crate) fn children_of(pid: &str) -> Option<Vec<libc::pid_t>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = thread.ok()?.path().join("children");
        let listed = match fs::read_to_string(&path) {
            Ok(listed) => listed,
            Err(_) if path.parent().is_some_and(|thread| !thread.exists()) => continue, // it has ended meanwhile
            Err(_) => return None,
        };
        children.extend(listed.split_whitespace().filter_map(|word| word.parse::<libc::pid_t>().ok()));
    }
    Some(children)
}

/// The CPU clock of a process; zero is this one.
fn clock_of(pid: libc::pid_t) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a live place for the answer.
    if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live place for the answer.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What the ended children of another process had used, as that process's zygote or fork server does.
fn waited_for_by(pid: libc::pid_t) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the state, field 3, comes behind it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 =
        fields.split(' ').skip(16 - 3).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: takes an integer and touches no memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(ticks * 1_000_000_000 / u64::try_from(per_second).ok().filter(|&rate| rate > 0)?)
}

fn waited_for() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a live place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    // SAFETY: all its fields are integers, and all bytes were written: zeroes above, or the answer.
    let usage = unsafe { usage.assume_init() };
    let nanos = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    nanos(usage.ru_utime) + nanos(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn grows_with_work() {
        let before = used();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        let Some((before, after)) = before.zip(used()) else { return };
        assert!(after > before);
    }
}
