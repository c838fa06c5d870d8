//! What the state machines of `raw` stand on: atomics, sleeping, and the time to give up.
//!
//! The machines name these by `super::sync` alone. The models (`tests/loom.rs`) compile the machines again, on atomics and a futex of their own.

use mp_core::deadline::SLICE;
use mp_core::{Deadline, park};
use std::time::{Duration, Instant};

pub(crate) type AtomicU32 = std::sync::atomic::AtomicU32;
pub(crate) type AtomicU64 = std::sync::atomic::AtomicU64;

/// How often waiters look after the dead: so often that with all delays it is within a slice.
const LOOK: Duration = Duration::from_millis(80);

/// When a wait gives up, and when it looks after the dead next.
#[derive(Debug)]
pub(crate) struct Watch {
    deadline: Deadline,
    next_look: Instant,
}

impl Watch {
    /// A wait that begins now.
    pub(crate) fn until(deadline: Deadline) -> Watch {
        Watch { deadline, next_look: Instant::now() + LOOK }
    }

    /// Whether the time is over.
    pub(crate) fn over(&self) -> bool {
        self.deadline.passed()
    }

    /// Whether it is time to look after the dead; the next time is a while later.
    pub(crate) fn look_due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK;
        true
    }

    /// Sleeps while `word` holds `expected`, not beyond the next look, nor a slice. May return early.
    pub(crate) fn sleep(&self, word: &AtomicU32, expected: u32) {
        let to_look = self.next_look.saturating_duration_since(Instant::now());
        park::sleep(word, expected, self.deadline.slice(SLICE).min(to_look));
    }
}

/// Wakes up to `count` who sleep on `word`; how many.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    park::wake(word, count)
}
