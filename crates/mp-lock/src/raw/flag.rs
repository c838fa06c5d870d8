//! A flag to wait for, by sleeping on its word or by polling a bell.
//!
//! | bits of the word | field |
//! | --- | --- |
//! | 0 | somebody may sleep |
//! | 1 | the flag is set; a hint only once it is polled |
//! | 2 | it is polled: from here on the bell is the flag |
//! | 3.. | how often it was set |
//!
//! | state | `wait` | `set` | `clear` | `poll_from_now_on` |
//! | --- | --- | --- | --- | --- |
//! | clear | sleeps | set, one more, all wake | – | polled, bell silent |
//! | set | returns | – | clear | polled, bell rings |
//! | polled, bell silent | sleeps | the bell rings, then one more, all wake | – | – |
//! | polled, bell rings | returns | the same | the bell falls silent | – |
//!
//! Invariants:
//! 1. There is one truth, changed by one step: the bit before the flag was ever polled, the bell after. So a poller is never
//!    misled, whoever dies between which steps: there is no flag and bell that could differ.
//! 2. While the flag is not polled, the bell belongs to who is about to make it polled; these exclude each other. The step to
//!    polled is an exchange of the very word that the bell was prepared for, and every other change of an unpolled word is an exchange, too.
//! 3. A waiter returns when the flag is set, or when the count differs from the one it first saw: a set that is cleared at once
//!    is missed by nobody who waited.
//! 4. Nobody owns anything: whoever dies, the word is whole. A setter may die between ringing and counting, or before its wake:
//!    no sleep is longer than a slice.
//!
//! Memory orderings: `set` publishes with the Release half of its exchange, or with a Release fence before it rings; who waits reads with
//! Acquire, or has an Acquire fence after it found the bell ringing. Whoever finds the flag polled has read that with Acquire, so its own use of
//! the bell comes after the preparing.

use super::sync::{AtomicU32, Watch, wake, will_write};
use std::sync::atomic::Ordering;

const SLEEPERS: u32 = 1;
const SET: u32 = 2;
const POLLED: u32 = 4;
const ONE: u32 = 8;
const COUNT: u32 = !(SLEEPERS | SET | POLLED);

/// Something that can be polled and has two states, changed by one step each.
pub(crate) trait Bell {
    /// Rings until it is hushed.
    fn ring(&self);
    /// Falls silent.
    fn hush(&self);
    /// Whether it rings.
    fn rings(&self) -> bool;
}

/// A view of the word and its bell.
#[derive(Debug)]
pub(crate) struct Flag<'a, B> {
    word: &'a AtomicU32,
    bell: &'a B,
}

impl<'a, B: Bell> Flag<'a, B> {
    pub(crate) fn new(word: &'a AtomicU32, bell: &'a B) -> Flag<'a, B> {
        Flag { word, bell }
    }

    fn truth(&self, word: u32) -> bool {
        if word & POLLED == 0 { word & SET != 0 } else { self.bell.rings() }
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.truth(self.word.load(Ordering::Acquire))
    }

    pub(crate) fn is_polled(&self) -> bool {
        self.word.load(Ordering::Acquire) & POLLED != 0
    }

    /// Sets it and wakes all who sleep.
    #[inline(always)]
    pub(crate) fn set(&self) {
        if self.set_silently() {
            wake(self.word, u32::MAX);
        }
        mp_core::step!("event.set", 3);
    }

    /// Sets it; whether somebody may sleep. The wake is the caller's, from where it need not return first.
    fn set_silently(&self) -> bool {
        will_write(self.word);
        let mut now = self.word.load(Ordering::Acquire);
        let mut rung = false;
        loop {
            if now & POLLED != 0 && !rung {
                self.bell.ring();
                rung = true;
                mp_core::step!("event.set", 4);
            }
            // Set already and unpolled: only make good the wake that a dead setter may have owed.
            let count = if now & (SET | POLLED) == SET { 0 } else { ONE };
            let next = now.wrapping_add(count) & !SLEEPERS | SET;
            mp_core::step!("event.set", 1);
            match self.word.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(found) => now = found,
            }
        }
        mp_core::step!("event.set", 2);
        now & SLEEPERS != 0
    }

    pub(crate) fn clear(&self) {
        let mut now = self.word.load(Ordering::Acquire);
        loop {
            if now & POLLED != 0 {
                self.bell.hush();
                mp_core::step!("event.clear", 1);
                self.word.fetch_and(!SET, Ordering::AcqRel);
                break;
            }
            match self.word.compare_exchange_weak(now, now & !SET, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(found) => now = found,
            }
        }
        mp_core::step!("event.clear", 2);
    }

    /// From here on the bell is the flag. The caller excludes others in here.
    pub(crate) fn poll_from_now_on(&self) {
        let mut now = self.word.load(Ordering::Acquire);
        while now & POLLED == 0 {
            // Whatever one who died in here left.
            self.bell.hush();
            if now & SET != 0 {
                self.bell.ring();
            }
            mp_core::step!("event.poll", 1);
            match self.word.compare_exchange(now, now | POLLED, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(found) => now = found,
            }
        }
        mp_core::step!("event.poll", 2);
    }

    /// What a wait that begins now waits for to differ.
    pub(crate) fn look(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Whether a wait that began when the word was `first` is over.
    #[inline]
    pub(crate) fn done(&self, first: u32) -> bool {
        self.done_by(first, self.word.load(Ordering::Acquire))
    }

    #[inline]
    fn done_by(&self, first: u32, now: u32) -> bool {
        now & COUNT != first & COUNT || self.truth(now)
    }

    /// Waits on from `first`; false when the time is over.
    pub(crate) fn wait(&self, first: u32, mut watch: Watch<'_>) -> bool {
        loop {
            let now = self.word.load(Ordering::Acquire);
            if self.done_by(first, now) {
                return true;
            }
            if watch.over() {
                return false;
            }
            // There is nobody to look after, only a wake to make good.
            watch.look_due();
            let armed = now | SLEEPERS;
            let is_armed = now == armed
                || self.word.compare_exchange(now, armed, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if is_armed {
                watch.sleep(self.word, armed);
            }
        }
    }
}
