//! A number of permits.
//!
//! Purpose: at most so many at once, and a permit whose holder died comes back. There is no count: the table of owners
//! (see `raw/table.rs`) is the count.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | gate: a permit has come back |
//! | 4..8 | how many entries the table has |
//! | 16.. | the table: a word for each permit |
//!
//! Invariants:
//! 1. A permit is free exactly while its word is `FREE`; each change is one exchange.
//! 2. A failed search counts only if the gate did not change meanwhile: a permit given back behind the searcher's back,
//!    and one taken before its eyes, would hide that there was one all the time.
//! 3. Waiters free the permits of the dead each slice, and so does a `try_acquire` that finds none.
//!
//! Memory orderings: as the table and the gate say.

use crate::error::LockError;
use crate::gate::Gate;
use crate::plain;
use crate::raw::table::{ABSENT, Table};
use mp_core::deadline::SLICE;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Segment};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"SEMA", 1);
const BOUNDED: Format = Format::plain(*b"SEMB", 1);
const GATE: usize = HEADER;
const ENTRIES: usize = HEADER + 4;
const TABLE: usize = HEADER + 16;

/// The most permits that a semaphore keeps track of, free, held and forgotten together.
pub const MAX_PERMITS: usize = 4096;

struct Inner {
    segment: Segment,
    entries: usize,
    /// Where the last permit was found: likely to be free again.
    hint: AtomicUsize,
}

impl Inner {
    fn create(format: Format, permits: usize, entries: usize) -> io::Result<Arc<Inner>> {
        if permits > MAX_PERMITS {
            let text = format!("a semaphore of {permits} permits: {MAX_PERMITS} is the most");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let segment = Segment::create(format, TABLE - HEADER + entries * 8)?;
        let count = u32::try_from(entries).map_err(io::Error::other)?;
        segment.map().atomic_u32(ENTRIES).store(count, Ordering::Relaxed);
        for place in permits..entries {
            segment.map().atomic_u64(TABLE + place * 8).store(ABSENT, Ordering::Relaxed);
        }
        Ok(Arc::new(Inner { segment, entries, hint: AtomicUsize::new(0) }))
    }

    fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        format: Format,
    ) -> Result<Arc<Inner>, D::Error> {
        let segment = plain::deserialize(deserializer, format, TABLE - HEADER, true)?;
        let room = (segment.len() - (TABLE - HEADER)) / 8;
        let said = usize::try_from(segment.map().atomic_u32(ENTRIES).load(Ordering::Relaxed));
        let entries = said.unwrap_or(usize::MAX).min(room);
        Ok(Arc::new(Inner { segment, entries, hint: AtomicUsize::new(0) }))
    }

    fn gate(&self) -> Gate<'_> {
        Gate(self.segment.map().atomic_u32(GATE))
    }

    fn table<'a>(&'a self) -> Table<impl Fn(usize) -> &'a AtomicU64> {
        Table::new(self.entries, |place| self.segment.map().atomic_u64(TABLE + place * 8))
    }

    /// Takes a permit, if one is free now (invariant 2).
    fn take(&self) -> Option<usize> {
        let me = Identity::current().pack();
        loop {
            let seen = self.gate().look();
            if let Some(place) = self.table().take(me, self.hint.load(Ordering::Relaxed)) {
                self.hint.store(place, Ordering::Relaxed);
                mp_core::step!("semaphore.acquire", 1);
                return Some(place);
            }
            if self.gate().look() == seen {
                return None;
            }
        }
    }

    /// Frees the permits of the dead; whether there were any.
    fn sweep(&self) -> bool {
        let freed = self.table().sweep(Identity::packed_is_alive);
        mp_core::step!("semaphore.sweep", 1);
        if freed > 0 {
            self.gate().open_some(freed);
        }
        freed > 0
    }

    fn acquire(&self, deadline: Deadline) -> Option<usize> {
        if let Some(place) = self.take() {
            return Some(place);
        }
        let mut spun = None;
        if Gate::spin(|| {
            spun = self.take();
            spun.is_some()
        }) {
            return spun;
        }
        let mut swept: Option<Instant> = None;
        loop {
            let seen = self.gate().look();
            if let Some(place) = self.take() {
                return Some(place);
            }
            if swept.is_none_or(|at| at.elapsed() >= SLICE) {
                swept = Some(Instant::now());
                if self.sweep() {
                    continue;
                }
            }
            if deadline.passed() {
                return None;
            }
            self.gate().sleep(seen, deadline.slice(SLICE));
        }
    }

    fn try_acquire(&self) -> Option<usize> {
        self.take().or_else(|| if self.sweep() { self.take() } else { None })
    }

    fn give_back(&self, place: usize) {
        mp_core::step!("semaphore.release", 1);
        if self.table().give_back(place, Identity::current().pack()) {
            self.hint.store(place, Ordering::Relaxed);
            mp_core::step!("semaphore.release", 2);
            self.gate().open_some(1);
        }
        mp_core::step!("semaphore.release", 3);
    }

    fn release(&self, permits: usize) -> Result<(), ReleaseError> {
        for released in 0..permits {
            if !self.table().add() {
                return Err(ReleaseError { released });
            }
            self.gate().open_some(1);
        }
        Ok(())
    }

    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("available", &self.table().free()).finish_non_exhaustive()
    }
}

/// Releasing more permits than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseError {
    released: usize,
}

impl ReleaseError {
    /// How many were released before there was no more room.
    #[must_use]
    pub fn released(&self) -> usize {
        self.released
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was released more often than there is room for permits")
    }
}

impl std::error::Error for ReleaseError {}

macro_rules! semaphore {
    ($(#[$doc:meta])* $name:ident, $format:expr, $entries:expr, $release_doc:literal) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<Inner>);

        impl $name {
            /// Makes a semaphore with `permits` free permits.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for more than [`MAX_PERMITS`]; or there is no memory or no descriptor left for it.
            pub fn new(permits: usize) -> io::Result<$name> {
                let entries: fn(usize) -> usize = $entries;
                Inner::create($format, permits, entries(permits)).map($name)
            }

            /// Waits for a permit.
            pub fn acquire(&self) -> Permit {
                loop {
                    if let Some(place) = self.0.acquire(Deadline::NEVER) {
                        return Permit::new(&self.0, place);
                    }
                }
            }

            /// Takes a permit if one is free now, or can be taken from the dead.
            #[must_use = "the permit comes back as soon as it is dropped"]
            pub fn try_acquire(&self) -> Option<Permit> {
                self.0.try_acquire().map(|place| Permit::new(&self.0, place))
            }

            /// Waits at most `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
            ///
            /// # Errors
            ///
            /// [`LockError::TimedOut`].
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, LockError> {
                self.acquire_until(Deadline::after(timeout))
            }

            /// Waits until `deadline`; one that has passed tries once.
            ///
            /// # Errors
            ///
            /// [`LockError::TimedOut`].
            pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit, LockError> {
                self.acquire_until(Deadline::at(deadline))
            }

            fn acquire_until(&self, deadline: Deadline) -> Result<Permit, LockError> {
                let place = self.0.acquire(deadline).ok_or(LockError::TimedOut)?;
                Ok(Permit::new(&self.0, place))
            }

            #[doc = $release_doc]
            ///
            /// # Errors
            ///
            /// When there is no room for that many; those before were released.
            pub fn release(&self, permits: usize) -> Result<(), ReleaseError> {
                self.0.release(permits)
            }

            /// How many permits are free now, those of the dead not among them. May change at any time.
            #[doc(alias = "get_value")]
            #[must_use]
            pub fn available_permits(&self) -> usize {
                self.0.table().free()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.debug(stringify!($name), f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.segment.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                Inner::deserialize(deserializer, $format).map($name)
            }
        }
    };
}

semaphore! {
    /// A number of permits, shared by processes.
    ///
    /// A [`Permit`] belongs to the process that acquired it, may go to another of its threads, and is given back when
    /// dropped. [`Permit::forget`] and [`release`](Semaphore::release) are Python's anonymous counting: what one process
    /// takes and forgets, another releases. With one permit that is Python's `Lock`, which anybody may release.
    ///
    /// # When a process dies
    ///
    /// - **Holding permits**: they come back within 100 ms while somebody waits, and at once for a
    ///   [`try_acquire`](Semaphore::try_acquire). Forgotten ones do not: nobody knows whose they are.
    /// - **Waiting**: nobody else notices.
    ///
    /// # Examples
    ///
    /// ```
    /// let seats = mp_lock::Semaphore::new(2)?;
    /// let (one, two) = (seats.acquire(), seats.acquire());
    /// assert!(seats.try_acquire().is_none());
    /// drop(one);
    /// assert_eq!(seats.available_permits(), 1);
    /// two.forget();
    /// seats.release(1)?;
    /// assert_eq!(seats.available_permits(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Semaphore, FORMAT, |_| MAX_PERMITS,
    "Adds free permits, forgotten ones or new ones, up to [`MAX_PERMITS`] in all."
}

semaphore! {
    /// A [`Semaphore`] that never has more permits than at first.
    ///
    /// # When a process dies
    ///
    /// As with [`Semaphore`].
    ///
    /// # Examples
    ///
    /// ```
    /// let seats = mp_lock::BoundedSemaphore::new(1)?;
    /// assert!(seats.release(1).is_err(), "it is full");
    /// seats.acquire().forget();
    /// seats.release(1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    BoundedSemaphore, BOUNDED, |permits| permits,
    "Makes forgotten permits free again; where none was forgotten, there is no room."
}

/// One permit of a semaphore, given back when dropped.
///
/// It belongs to this process: dropped in a forked child, it does nothing.
#[must_use = "the permit comes back as soon as it is dropped"]
pub struct Permit {
    /// None once it was forgotten.
    semaphore: Option<Arc<Inner>>,
    place: usize,
}

impl Permit {
    fn new(semaphore: &Arc<Inner>, place: usize) -> Permit {
        Permit { semaphore: Some(Arc::clone(semaphore)), place }
    }

    /// Gives the permit back, as dropping it does.
    pub fn release(self) {}

    /// Gives up keeping track of it: it is gone until somebody calls `release` on the semaphore.
    pub fn forget(mut self) {
        if let Some(semaphore) = self.semaphore.take() {
            semaphore.table().forget(self.place, Identity::current().pack());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(semaphore) = &self.semaphore {
            semaphore.give_back(self.place);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("number", &self.place).finish_non_exhaustive()
    }
}
