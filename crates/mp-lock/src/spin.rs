//! Spinning before a sleep, as long as that has lately paid.

use mp_core::park;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What this process's threads have learnt at one handle about waiting there. The budget is a time, not a count of pauses, which
/// last 4 to 140 cycles by processor.
#[derive(Debug)]
pub(crate) struct Spin {
    /// In nanoseconds.
    budget: AtomicU32,
    passed_over: AtomicU32,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin { budget: AtomicU32::new(Spin::MOST), passed_over: AtomicU32::new(0) }
    }
}

impl Spin {
    const MOST: u32 = 5_000;
    const LEAST: u32 = 600;
    /// A budget that has shrunk to nothing is tried again so seldom.
    const PROBE_EVERY: u32 = 64;

    /// Spins until `done` says so; false when it did not within the budget.
    #[inline]
    pub(crate) fn until(&self, mut done: impl FnMut() -> bool) -> bool {
        done() || self.insist(done)
    }

    /// Several threads may learn at once; each lesson is as good as another.
    fn insist(&self, mut done: impl FnMut() -> bool) -> bool {
        if park::usable_cores() < 2 {
            return false;
        }
        let learnt = self.budget.load(Ordering::Relaxed);
        if learnt < Spin::LEAST {
            let passed_over = self.passed_over.load(Ordering::Relaxed) + 1;
            self.passed_over.store(passed_over % Spin::PROBE_EVERY, Ordering::Relaxed);
            if passed_over < Spin::PROBE_EVERY {
                return false;
            }
        }
        let budget = if learnt < Spin::LEAST { Spin::MOST } else { learnt };
        let (start, allowed) = (Instant::now(), Duration::from_nanos(budget.into()));
        let found = loop {
            if (0..8).any(|_| {
                spin_loop();
                done()
            }) {
                break true;
            }
            if start.elapsed() >= allowed {
                break false;
            }
        };
        let next = if found { Spin::MOST.min(learnt.saturating_mul(2).max(Spin::LEAST)) } else { learnt / 2 };
        self.budget.store(next, Ordering::Relaxed);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_that_never_pays_shrinks_to_nothing_and_comes_back_when_it_does() {
        let spin = Spin::default();
        for _ in 0..8 {
            assert!(!spin.until(|| false));
        }
        assert!(park::usable_cores() < 2 || spin.budget.load(Ordering::Relaxed) < Spin::LEAST);
        for _ in 0..10 * Spin::PROBE_EVERY {
            let mut looks = 0;
            let _ = spin.until(|| {
                looks += 1;
                looks > 3
            });
        }
        assert!(park::usable_cores() < 2 || spin.budget.load(Ordering::Relaxed) == Spin::MOST);
    }
}
