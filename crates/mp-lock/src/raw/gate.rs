//! Where waiters sleep until something has changed.
//!
//! Purpose: "look, find it not yet so, sleep until somebody has changed something" without missing a change, and without
//! a system call for a change that nobody waits for. The word counts changes in its upper 30 bits.
//!
//! | bits 0 and 1 | mean | a waiter who sleeps makes it | `open_all` | `open_one` |
//! | --- | --- | --- | --- | --- |
//! | 0 | nobody sleeps | 1 | – | – |
//! | 1 | one may sleep | 3, or leaves it when it is he | 0, wakes all | 0, wakes one |
//! | 3 | several may sleep | – | 0, wakes all | wakes one; when there was none: 0, wakes all |
//!
//! `open_one` comes in two halves, the change and the wake; `open_all` has both.
//!
//! Invariants:
//! 1. A change between `look` and `sleep` changes the word, so `sleep` returns at once.
//! 2. While somebody sleeps, a bit is set or a wake for him is on its way: the first of the kernel's queue is the one who has
//!    slept longest. Whoever comes between a change and its wake sets a bit of his own.
//! 3. No sleep is longer than a slice: a waker may die between its change and its wake, and the one it woke before acting.
//!
//! Memory orderings: the truth is changed before the Release half of `open_*`'s exchange, whose Acquire counterpart is `look`: who
//! sees the new count sees the change.

use super::sync::{AtomicU32, Watch, wake, will_write};
use std::sync::atomic::Ordering;

const SLEEPER: u32 = 1;
const SEVERAL: u32 = 3;
const CHANGE: u32 = 4;

/// Whom a change is to wake.
#[derive(Clone, Copy, Debug)]
#[must_use = "who sleeps is woken after it"]
pub(crate) enum Owed {
    Nobody,
    TheOne,
    /// One of several; what the word became.
    One(u32),
}

/// The word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a>(pub(crate) &'a AtomicU32);

impl Gate<'_> {
    /// What to pass to `sleep`: read it before the truth.
    #[inline]
    pub(crate) fn look(self) -> u32 {
        self.0.load(Ordering::Acquire) & !SEVERAL
    }

    /// Sleeps until a change after `seen`, as long as `watch` lets it. May return early.
    pub(crate) fn sleep(self, seen: u32, watch: &mut Watch<'_>) {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now & !SEVERAL != seen {
                return;
            }
            let armed = match now & SEVERAL {
                0 => now | SLEEPER,
                // Our own bit, from a sleep before this one.
                SLEEPER if watch.armed == Some(now) => now,
                _ => now | SEVERAL,
            };
            match self.0.compare_exchange_weak(now, armed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    watch.armed = Some(armed);
                    return watch.sleep(self.0, armed);
                }
                Err(found) => now = found,
            }
        }
    }

    /// Has the word's line come, together with what is changed before the gate opens if that lies in it.
    #[inline]
    pub(crate) fn will_open(self) {
        will_write(self.0);
    }

    /// Counts a change, clearing `bits` of what it found, which is returned together with what is there now.
    #[inline]
    fn change(self, bits: impl Fn(u32) -> u32) -> (u32, u32) {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let next = now.wrapping_add(CHANGE) & !bits(now);
            match self.0.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return (now, next),
                Err(found) => now = found,
            }
        }
    }

    /// Something has changed that concerns all.
    #[inline]
    pub(crate) fn open_all(self) {
        let (before, _) = self.change(|_| SEVERAL);
        if before & SLEEPER != 0 {
            wake(self.0, u32::MAX);
        }
    }

    /// Something has changed that one waiter can use: counts it. The wake is the caller's, from where it need not return first.
    #[inline]
    pub(crate) fn open_one(self) -> Owed {
        let (before, now) = self.change(|word| if word & SEVERAL == SEVERAL { 0 } else { SLEEPER });
        match before & SEVERAL {
            0 => Owed::Nobody,
            SLEEPER => Owed::TheOne,
            _ => Owed::One(now),
        }
    }

    /// The other half of [`open_one`](Gate::open_one).
    #[inline(always)]
    pub(crate) fn wake(self, owed: Owed) {
        match owed {
            Owed::Nobody => {}
            Owed::TheOne => _ = wake(self.0, 1),
            Owed::One(now) => self.wake_one_of_several(now),
        }
    }

    #[cold]
    fn wake_one_of_several(self, now: u32) {
        if wake(self.0, 1) > 0 {
            return;
        }
        let cleared = self.0.compare_exchange(now, now & !SEVERAL, Ordering::AcqRel, Ordering::Relaxed);
        if cleared.is_ok() {
            wake(self.0, u32::MAX);
        }
    }
}
