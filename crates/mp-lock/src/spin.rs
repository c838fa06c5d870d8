//! Spinning before a sleep, as long as that has lately paid.

use mp_core::park;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What this process's threads have learnt at one handle about waiting there. The budget is a time, not a count of pauses, which
/// last 4 to 140 cycles by processor.
///
/// Two that hand something to each other have two gaits, and neither leaves its own by itself: both spin, and each finds what it waits
/// for within a fraction of a microsecond; or both sleep, and each is woken after longer than a spin. So one that has
/// given up spinning now and then insists, for as long as a wake takes, and some times in a row: until the other one has done the same.
/// Each time that this does not help it waits twice as often before it tries again: on one core it hardly ever does.
#[derive(Debug)]
pub(crate) struct Spin {
    /// In nanoseconds; 0 when spinning has lately not paid.
    budget: AtomicU32,
    /// How often to insist from here on.
    insist: AtomicU32,
    /// How many waits to pass over before the next attempt, and how many it was the last time.
    to_pass: AtomicU32,
    passed: AtomicU32,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin {
            budget: AtomicU32::new(MOST),
            insist: AtomicU32::new(0),
            to_pass: AtomicU32::new(0),
            passed: AtomicU32::new(FEWEST),
        }
    }
}

const MOST: u32 = 5_000;
const LEAST: u32 = 600;
/// About two wakes of a sleeping process on another core.
const INSIST: u32 = 60_000;
/// So often in a row.
const ROW: u32 = 64;
/// The longest spin for a mutex.
const BRIEF: u32 = 10_000;
const MOST_PAUSES: u32 = 64;
const FEWEST: u32 = 16;
const SELDOM: u32 = 4096;

impl Spin {
    /// Spins until `done` says so; false when it did not within the budget.
    #[inline]
    pub(crate) fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        done() || self.insist(done)
    }

    /// Several threads may learn at once; each lesson is as good as another.
    fn insist(&self, done: impl FnMut() -> bool) -> bool {
        if !has_several_cores() {
            return false;
        }
        let budget = self.budget.load(Ordering::Relaxed);
        if budget >= LEAST {
            let found = spin(budget, done);
            let next = if found { MOST.min(budget * 2) } else { budget / 2 };
            // A line that nobody writes to stays in the caches of all threads that wait here.
            if next != budget {
                self.budget.store(next, Ordering::Relaxed);
            }
            return found;
        }
        let to_pass = self.to_pass.load(Ordering::Relaxed);
        if to_pass > 0 {
            self.to_pass.store(to_pass - 1, Ordering::Relaxed);
            return false;
        }
        let start = Instant::now();
        let found = spin(INSIST, done);
        self.learn(found.then(|| start.elapsed()));
        found
    }

    /// From one time of insisting.
    fn learn(&self, took: Option<Duration>) {
        let left = match self.insist.load(Ordering::Relaxed) {
            0 => ROW,
            left => left - 1,
        };
        match took {
            // Both spin now.
            Some(took) if took.as_nanos() < MOST.into() => {
                self.insist.store(0, Ordering::Relaxed);
                self.passed.store(FEWEST, Ordering::Relaxed);
                self.budget.store(MOST, Ordering::Relaxed);
            }
            Some(_) if left > 0 => self.insist.store(left, Ordering::Relaxed),
            _ => {
                let passed = self.passed.load(Ordering::Relaxed).saturating_mul(2).min(SELDOM);
                self.insist.store(0, Ordering::Relaxed);
                self.passed.store(passed, Ordering::Relaxed);
                self.to_pass.store(passed, Ordering::Relaxed);
            }
        }
    }
}

/// Whether another process can run while this one spins. Not how many cores this process may use: bound to one, it spins for one that
/// is bound to another.
fn has_several_cores() -> bool {
    static SEVERAL: park::Answer = park::Answer::new();
    SEVERAL.get(|| {
        // A list such as `0-3`; where it cannot be read, what this process may use is a fair guess.
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
        online.map_or(park::usable_cores() > 1, |online| online.contains(['-', ',']))
    })
}

/// For the mutex, which has no memory of its own: a short spin, as long as that has lately paid anywhere in this process.
///
/// It looks ever more rarely, so that two who want the same mutex all the time do not take its cache line from each other at each
/// turn: the one runs a while, then the other. Nobody insists: what a mutex guards is held shortly.
pub(crate) fn brief(mut done: impl FnMut() -> bool) -> bool {
    static BUDGET: AtomicU32 = AtomicU32::new(BRIEF);
    static PASSED: AtomicU32 = AtomicU32::new(0);
    if !has_several_cores() {
        return false;
    }
    let learnt = BUDGET.load(Ordering::Relaxed);
    if learnt < LEAST {
        let passed = PASSED.load(Ordering::Relaxed).wrapping_add(1);
        PASSED.store(passed, Ordering::Relaxed);
        if !passed.is_multiple_of(FEWEST) {
            return false;
        }
    }
    let (start, allowed) = (Instant::now(), Duration::from_nanos(learnt.max(LEAST).into()));
    let (mut pauses, mut found) = (1, false);
    while !found && start.elapsed() < allowed {
        (0..pauses).for_each(|_| spin_loop());
        pauses = (pauses * 2).min(MOST_PAUSES);
        found = done();
    }
    BUDGET.store(if found { BRIEF.min(learnt.max(LEAST) * 2) } else { learnt / 2 }, Ordering::Relaxed);
    found
}

/// Looks that cost no clock: who is answered at once neither reads it before nor after.
const EARLY: u32 = 16;

/// Whether `done` within the time, at least after [`EARLY`] pauses.
fn spin(nanos: u32, mut done: impl FnMut() -> bool) -> bool {
    let mut look = || {
        spin_loop();
        done()
    };
    if (0..EARLY).any(|_| look()) {
        return true;
    }
    let (start, allowed) = (Instant::now(), Duration::from_nanos(nanos.into()));
    while start.elapsed() < allowed {
        if (0..8).any(|_| look()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_that_never_pays_becomes_rare_and_comes_back_when_it_does() {
        if !has_several_cores() {
            return;
        }
        let spin = Spin::default();
        let mut looked = Vec::new();
        for _ in 0..2000 {
            let mut looks = 0;
            assert!(!spin.until(|| {
                looks += 1;
                false
            }));
            looked.push(looks > 1);
        }
        let spins = |looked: &[bool]| looked.iter().filter(|looked| **looked).count();
        assert!(spins(&looked[..10]) > 0 && spins(&looked[1000..]) <= 1, "{}", spins(&looked));
        let mut waits = 0;
        while spin.budget.load(Ordering::Relaxed) < MOST {
            let mut looks = 0;
            spin.until(|| {
                looks += 1;
                looks > 3
            });
            waits += 1;
        }
        assert!(waits <= 2 * SELDOM);
    }
}
