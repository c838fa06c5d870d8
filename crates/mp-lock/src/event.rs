//! A flag to wait for.
//!
//! Purpose: many wait until somebody sets the flag; a set that is cleared at once is missed by nobody who waited.
//! Everything is one word: bit 0 says that somebody may sleep, bit 1 that the flag is set, the rest counts the sets.
//!
//! | state | `wait` | `set` | `clear` |
//! | --- | --- | --- | --- |
//! | clear | sleeps | set, one more, all wake | – |
//! | set | returns | – | clear |
//!
//! Invariants:
//! 1. A waiter returns when the flag is set, or when the count differs from the one it first saw.
//! 2. Nobody owns anything: whoever dies, the word is whole.
//! 3. No sleep is longer than a slice: a setter may die between its store and its wake.
//!
//! Memory orderings: `set` publishes with Release, `wait` and `is_set` read with Acquire: who sees the flag sees what the
//! setter wrote before.

use crate::gate::Gate;
use crate::plain;
use mp_core::deadline::SLICE;
use mp_core::{Deadline, park};
use mp_shm::{Format, HEADER, Segment};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"EVNT", 1);
const LENGTH: usize = 4;

const SLEEPERS: u32 = 1;
const SET: u32 = 2;
const ONE: u32 = 4;
const COUNT: u32 = !(SET | SLEEPERS);

/// A flag that any process sets or clears, and any number wait for.
///
/// Cloning it, or sending it to another process, gives another handle on the same event.
///
/// # When a process dies
///
/// - **Waiting**: nobody else notices; [`set`](Event::set) neither waits for waiters nor counts them.
/// - **Setting**: the flag is set or not. If it died before it could wake the waiters, they see it within 100 ms.
///
/// # Examples
///
/// ```
/// let event = mp_lock::Event::new()?;
/// let waiter = std::thread::spawn({
///     let event = event.clone();
///     move || event.wait()
/// });
/// event.set();
/// waiter.join().expect("it waited");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Event(Segment);

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Event> {
        Segment::create(FORMAT, LENGTH).map(Event)
    }

    #[inline]
    fn word(&self) -> &AtomicU32 {
        self.0.map().atomic_u32(HEADER)
    }

    /// Whether it is set. May change at any time.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.word().load(Ordering::Acquire) & SET != 0
    }

    /// Sets the flag and wakes all who wait. Takes no lock, so a signal handler may call it.
    pub fn set(&self) {
        let (word, mut now) = (self.word(), self.word().load(Ordering::Relaxed));
        loop {
            // Set already: only make good the wake that a dead setter may have owed.
            let count = if now & SET == 0 { ONE } else { 0 };
            let next = now.wrapping_add(count) & !SLEEPERS | SET;
            mp_core::step!("event.set", 1);
            match word.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(found) => now = found,
            }
        }
        mp_core::step!("event.set", 2);
        if now & SLEEPERS != 0 {
            park::wake(word, u32::MAX);
        }
        mp_core::step!("event.set", 3);
    }

    /// Clears the flag: those who wait from now on sleep.
    pub fn clear(&self) {
        self.word().fetch_and(!SET, Ordering::AcqRel);
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        self.wait_until(Deadline::NEVER);
    }

    /// Waits at most `timeout`; whether it was set. Zero only looks, [`Duration::MAX`] waits for ever.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`; whether it was set.
    #[must_use]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Deadline::at(deadline))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        let word = self.word();
        let first = word.load(Ordering::Acquire);
        let done = |now: u32| now & SET != 0 || now & COUNT != first & COUNT;
        if done(first) || Gate::spin(|| done(word.load(Ordering::Acquire))) {
            return true;
        }
        loop {
            let now = word.load(Ordering::Acquire);
            if done(now) {
                return true;
            }
            if deadline.passed() {
                return false;
            }
            let armed = now | SLEEPERS;
            if now == armed || word.compare_exchange(now, armed, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                park::sleep(word, armed, deadline.slice(SLICE));
            }
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Event, D::Error> {
        plain::deserialize(deserializer, FORMAT, LENGTH, false).map(Event)
    }
}
