//! What the state machines of `raw` stand on: atomics, sleeping, and the time to give up.
//!
//! The machines name these by `super::sync` alone. The models (`tests/loom.rs`) compile the machines again, on atomics and a futex of their own.

use mp_core::deadline::SLICE;
use mp_core::{Deadline, park};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub(crate) type AtomicU32 = std::sync::atomic::AtomicU32;
pub(crate) type AtomicU64 = std::sync::atomic::AtomicU64;

/// How often waiters look after the dead: so often that with all delays it is within a slice.
const LOOK: Duration = Duration::from_millis(80);

/// The first sleep, which begins without a look at the clock, and the time from its end to the first look after the dead.
const FIRST: Duration = Duration::from_millis(40);

/// So soon behind a look of another thread of this process at the same thing, nobody looks again. Together with [`LOOK`] it is less than a slice.
const LATELY: u64 = 12;

/// When a thread of this process has last looked after the dead at one handle. Thousands who wait there in a few processes need no
/// more looks than the processes would.
#[derive(Debug, Default)]
pub(crate) struct Looks(AtomicU64);

impl Looks {
    /// Whether it falls to the caller to look. Relaxed: whoever looks too often, or in vain, does no harm.
    fn is_mine(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let last = self.0.load(Relaxed);
        // A child that was forked goes on from its parent's.
        now.wrapping_sub(last) >= LATELY && self.0.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}

/// When a wait gives up, and when it looks after the dead next. A wait that is over within its first sleep reads no clock.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    deadline: Deadline,
    next_look: NextLook,
    looks: Option<&'a Looks>,
    /// The word as a gate's sleeper left it, see there.
    pub(super) armed: Option<u32>,
}

#[derive(Debug)]
enum NextLook {
    /// Nobody has slept.
    Unknown,
    /// After the first sleep, however it ended.
    Slept,
    /// On the coarse clock, which costs next to nothing and is a few milliseconds behind.
    At(Duration),
}

impl<'a> Watch<'a> {
    /// A wait that begins now.
    pub(crate) fn until(deadline: Deadline) -> Watch<'a> {
        Watch { deadline, next_look: NextLook::Unknown, looks: None, armed: None }
    }

    /// A wait that begins now, among others at one handle that look for each other.
    pub(crate) fn among(looks: &'a Looks, deadline: Deadline) -> Watch<'a> {
        Watch { looks: Some(looks), ..Watch::until(deadline) }
    }

    /// Whether the time is over.
    pub(crate) fn over(&self) -> bool {
        self.deadline.passed()
    }

    /// Whether it is time to look after the dead; the next time is a while later.
    pub(crate) fn look_due(&mut self) -> bool {
        let wait = match self.next_look {
            NextLook::Unknown => return false,
            NextLook::Slept => FIRST,
            NextLook::At(at) if coarse_now() < at => return false,
            NextLook::At(_) => LOOK,
        };
        let (due, now) = (matches!(self.next_look, NextLook::At(_)), coarse_now());
        self.next_look = NextLook::At(now + wait);
        due && self.looks.is_none_or(|looks| looks.is_mine(now))
    }

    /// Which time it is, in milliseconds on a clock that all processes share.
    #[expect(clippy::unused_self, reason = "the models have a clock in each watch")]
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(coarse_now().as_millis()).unwrap_or(u64::MAX)
    }

    /// The next look is due at `millis` of [`now`](Watch::now).
    pub(crate) fn look_at(&mut self, millis: u64) {
        self.next_look = NextLook::At(Duration::from_millis(millis));
    }

    /// Sleeps while `word` holds `expected`, not beyond the next look, nor a slice. May return early.
    #[inline]
    pub(crate) fn sleep(&mut self, word: &AtomicU32, expected: u32) {
        let slice = self.slice();
        park::sleep(word, expected, slice);
        if matches!(self.next_look, NextLook::Unknown) {
            self.next_look = NextLook::Slept;
        }
    }

    /// How long to sleep now.
    fn slice(&self) -> Duration {
        let to_look = match self.next_look {
            NextLook::At(at) => at.saturating_sub(coarse_now()).max(COARSE),
            NextLook::Unknown | NextLook::Slept => FIRST,
        };
        self.deadline.slice(SLICE).min(to_look)
    }
}

/// How far behind the coarse clock may be.
const COARSE: Duration = Duration::from_millis(4);

fn coarse_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Wakes up to `count` who sleep on `word`; how many.
#[inline]
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    park::wake(word, count)
}

/// Says that `word` is about to be changed: its line comes once, to be written to, not first to be read.
#[inline]
pub(crate) fn will_write(word: &AtomicU32) {
    park::will_write(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_look_at_once_one_does_and_none_is_passed_over_for_a_slice() {
        let looks = Looks::default();
        let at = |millis| looks.is_mine(Duration::from_millis(1_000_000 + millis));
        assert_eq!((0..LATELY).filter(|now| at(*now)).collect::<Vec<_>>(), [0]);
        assert!(at(LATELY) && !at(LATELY));
        let worst = Duration::from_millis(LATELY) + LOOK + COARSE;
        assert!(worst < SLICE, "{worst:?}");
    }
}
