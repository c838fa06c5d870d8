//! Where waiters sleep until something has changed.
//!
//! Purpose: "look, find it not yet so, sleep until somebody has changed something" without missing a change, and without
//! a system call for a change that nobody waits for. The word counts changes in its upper 31 bits; its lowest bit says
//! that somebody may sleep.
//!
//! | who | does |
//! | --- | --- |
//! | waiter | `look`; reads the truth; `sleep` sets the bit if nothing has changed since, and sleeps while that is so |
//! | changer | changes the truth; `open_*` counts and, if the bit was set, wakes |
//!
//! Invariants:
//! 1. A change between `look` and `sleep` changes the word, so `sleep` returns at once.
//! 2. While somebody sleeps, the bit is set or a wake for all is on its way. `open_all` clears it before it wakes all;
//!    `open_some` leaves it set, and clears it only when it woke fewer than it wanted, and then wakes all who came
//!    meanwhile.
//! 3. No sleep is longer than a slice: a waker may die between its change and its wake, and the one it woke before acting.
//!
//! Memory orderings: the truth is changed before the Release half of `open_*`'s read-modify-write, whose Acquire
//! counterpart is `look`: who sees the new count sees the change.

use super::sync::{AtomicU32, Watch, wake};
use std::sync::atomic::Ordering;

const SLEEPERS: u32 = 1;
const CHANGE: u32 = 2;

/// The word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a>(pub(crate) &'a AtomicU32);

impl Gate<'_> {
    /// What to pass to `sleep`: read it before the truth.
    #[inline]
    pub(crate) fn look(self) -> u32 {
        self.0.load(Ordering::Acquire) & !SLEEPERS
    }

    /// Sleeps until a change after `seen`, as long as `watch` lets it. May return early.
    pub(crate) fn sleep(self, seen: u32, watch: &Watch) {
        let armed = seen | SLEEPERS;
        match self.0.compare_exchange(seen, armed, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => watch.sleep(self.0, armed),
            Err(found) if found == armed => watch.sleep(self.0, armed),
            Err(_) => {}
        }
    }

    /// Something has changed that concerns all.
    #[inline]
    pub(crate) fn open_all(self) {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let next = now.wrapping_add(CHANGE) & !SLEEPERS;
            match self.0.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(found) => now = found,
            }
        }
        if now & SLEEPERS != 0 {
            wake(self.0, u32::MAX);
        }
    }

    /// Something has changed that `count` waiters can use.
    #[inline]
    pub(crate) fn open_some(self, count: u32) {
        let before = self.0.fetch_add(CHANGE, Ordering::AcqRel);
        if before & SLEEPERS != 0 {
            self.wake_some(before.wrapping_add(CHANGE), count);
        }
    }

    #[cold]
    fn wake_some(self, word: u32, count: u32) {
        if wake(self.0, count) >= usize::try_from(count).unwrap_or(usize::MAX) {
            return;
        }
        let cleared = self.0.compare_exchange(word, word & !SLEEPERS, Ordering::AcqRel, Ordering::Relaxed);
        if cleared.is_ok() {
            wake(self.0, u32::MAX);
        }
    }
}
