//! A number of permits: see `raw/permits.rs` for how it works.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | gate: a permit has come back |
//! | 4..8 | how many entries the table has |
//! | 8..12 | how many of them were ever used |
//! | 16.. | the table: a word for each permit |
//!
//! The first permits share the gate's line: with few permits a single line goes to and fro.

use crate::error::LockError;
use crate::orphan::Owner;
use crate::plain;
use crate::raw::gate::{Gate, Owed};
use crate::raw::permits::Permits;
use crate::raw::sync::{Looks, Watch};
use crate::raw::table::ABSENT;
use crate::spin::Spin;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Mapping, Segment, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"SEMA", 3);
const BOUNDED: Format = Format::plain(*b"SEMB", 3);
const GATE: usize = HEADER;
const ENTRIES: usize = HEADER + 4;
const USED: usize = HEADER + 8;
const TABLE: usize = HEADER + 16;

/// The most permits that a semaphore keeps track of, free, held and forgotten together.
pub const MAX_PERMITS: usize = 4096;

/// How many bytes of payload a table of so many entries takes.
const fn length(entries: usize) -> usize {
    TABLE - HEADER + entries * 8
}

fn build(map: &Mapping, permits: usize, entries: usize) -> io::Result<()> {
    let word = |count: usize| u32::try_from(count).map_err(io::Error::other);
    map.atomic_u32(ENTRIES).store(word(entries)?, Ordering::Relaxed);
    map.atomic_u32(USED).store(word(permits)?, Ordering::Relaxed);
    for place in permits..entries {
        map.atomic_u64(TABLE + place * 8).store(ABSENT, Ordering::Relaxed);
    }
    Ok(())
}

fn in_bounds(permits: usize) -> io::Result<()> {
    if permits <= MAX_PERMITS {
        return Ok(());
    }
    let text = format!("a semaphore of {permits} permits: {MAX_PERMITS} is the most");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

struct Inner {
    segment: Segment,
    entries: usize,
    /// Where the last permit was found: likely to be free again.
    hint: AtomicUsize,
    spin: Spin,
    looks: Looks,
}

impl Inner {
    fn create(format: Format, permits: usize, entries: usize) -> io::Result<Arc<Inner>> {
        in_bounds(permits)?;
        let segment = Segment::create(format, length(entries))?;
        build(segment.map(), permits, entries)?;
        Inner::over(segment)
    }

    fn create_in(
        memory: &SharedMemory,
        offset: usize,
        format: Format,
        permits: usize,
        entries: usize,
    ) -> io::Result<Arc<Inner>> {
        in_bounds(permits)?;
        let build = |map: &Mapping| build(map, permits, entries);
        Inner::over(Segment::place(memory, offset, format, length(entries), build)?)
    }

    fn over(segment: Segment) -> io::Result<Arc<Inner>> {
        let segment = plain::checked(segment, length(0))?;
        let room = (segment.len() - length(0)) / 8;
        let said = usize::try_from(segment.map().atomic_u32(ENTRIES).load(Ordering::Relaxed));
        let entries = said.unwrap_or(usize::MAX).min(room);
        Ok(Arc::new(Inner {
            segment,
            entries,
            hint: AtomicUsize::new(0),
            spin: Spin::default(),
            looks: Looks::default(),
        }))
    }

    #[inline]
    fn permits<'a>(&'a self) -> Permits<'a, impl Fn(usize) -> &'a AtomicU64> {
        let map = self.segment.map();
        let word = |place: usize| map.atomic_u64(TABLE + place * 8);
        Permits::new(self.gate(), map.atomic_u32(USED), self.entries, word)
    }

    #[inline]
    fn gate(&self) -> Gate<'_> {
        Gate(self.segment.map().atomic_u32(GATE))
    }

    fn hint(&self) -> usize {
        self.hint.load(Ordering::Relaxed)
    }

    #[inline]
    fn take(&self) -> Option<usize> {
        let place = self.permits().take(Identity::current_packed(), self.hint())?;
        self.hint.store(place, Ordering::Relaxed);
        Some(place)
    }

    fn acquire(&self, deadline: Deadline) -> Option<usize> {
        let permits = self.permits();
        let mut seen = permits.look();
        if let Some(place) = self.take() {
            return Some(place);
        }
        // Looks at one word only, which the line of a permit given back comes with.
        let mut found = None;
        let spun = self.spin.until(|| {
            let now = permits.look();
            if now != seen {
                seen = now;
                found = self.take();
            }
            found.is_some()
        });
        if spun {
            return found;
        }
        let me = Identity::current_packed();
        let place = permits.acquire(
            me,
            self.hint(),
            Watch::among(&self.looks, deadline),
            Identity::packed_is_alive,
        )?;
        self.hint.store(place, Ordering::Relaxed);
        Some(place)
    }

    fn try_acquire(&self) -> Option<usize> {
        let sweep = || self.permits().sweep(Identity::packed_is_alive);
        self.take().or_else(|| if sweep() { self.take() } else { None })
    }

    #[cfg(feature = "async")]
    async fn acquire_async(&self) -> usize {
        let mut pace = crate::pace::Pace::default();
        loop {
            let found = if pace.look_due() { self.try_acquire() } else { self.take() };
            if let Some(place) = found {
                return place;
            }
            pace.rest().await;
        }
    }

    #[inline(always)]
    fn give_back(&self, place: usize) {
        if let Some(owed) = self.free(place) {
            self.wake(owed);
        }
    }

    /// Wakes who waits for the permit that is there now.
    #[inline(always)]
    fn wake(&self, owed: Owed) {
        mp_core::step!("semaphore.release", 3);
        self.gate().wake(owed);
        mp_core::step!("semaphore.release", 4);
    }

    fn free(&self, place: usize) -> Option<Owed> {
        // Where the next one looks first.
        self.hint.store(place, Ordering::Relaxed);
        self.permits().give_back(place, Identity::current_packed())
    }

    #[inline(always)]
    fn release(&self, permits: usize) -> Result<(), ReleaseError> {
        for released in 0..permits {
            let owed = self.add().ok_or(ReleaseError { released })?;
            self.wake(owed);
        }
        Ok(())
    }

    fn add(&self) -> Option<Owed> {
        self.permits().add()
    }

    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holders = self.permits().table().owners(0..self.entries).map(Owner).collect::<Vec<_>>();
        f.debug_struct(name)
            .field("available", &self.permits().table().free())
            .field("holders", &holders)
            .finish_non_exhaustive()
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

/// How many entries a semaphore's table has, by how many permits there are at first.
const fn any(_permits: usize) -> usize {
    MAX_PERMITS
}

const fn bounded(permits: usize) -> usize {
    permits
}

macro_rules! semaphore {
    ($(#[$doc:meta])* $name:ident, $format:expr, $size:path, $release_doc:literal) => {
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
                Inner::create($format, permits, $size(permits)).map($name)
            }

            /// How many bytes of named memory one with `permits` takes.
            #[must_use]
            pub const fn size(permits: usize) -> usize {
                HEADER + length($size(permits))
            }

            /// Makes one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
            ///
            /// It stays there as long as the memory, whoever dies; others [`open_in`](Self::open_in) it.
            ///
            /// # Errors
            ///
            /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit or there are more than [`MAX_PERMITS`].
            pub fn new_in(memory: &SharedMemory, offset: usize, permits: usize) -> io::Result<$name> {
                Inner::create_in(memory, offset, $format, permits, $size(permits)).map($name)
            }

            /// The one that was made at `offset` of named memory.
            ///
            /// # Errors
            ///
            /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
            pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<$name> {
                Inner::over(Segment::open_at(memory, offset, $format)?).map($name)
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

            /// Waits for a permit, under any executor. No thread waits for it, and dropping the future takes no permit.
            ///
            /// It looks again after a millisecond at first, and each 32 ms once it has waited for a while: those who wait in a
            /// thread are served sooner. The permit may be kept over an `await` and go to another thread.
            #[cfg(feature = "async")]
            pub async fn acquire_async(&self) -> Permit {
                Permit::new(&self.0, self.0.acquire_async().await)
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
            #[inline(always)]
            pub fn release(&self, permits: usize) -> Result<(), ReleaseError> {
                self.0.release(permits)
            }

            /// How many permits are free now, those of the dead not among them. May change at any time.
            #[doc(alias = "get_value")]
            #[must_use]
            pub fn available_permits(&self) -> usize {
                self.0.permits().table().free()
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
                let segment = plain::deserialize(deserializer, $format, length(0))?;
                Inner::over(segment).map($name).map_err(serde::de::Error::custom)
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
    ///   [`try_acquire`](Semaphore::try_acquire). Forgotten ones do not: nobody knows whose they are. A process that becomes another
    ///   program by `exec` has not died: its permits come back when that program ends.
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
    Semaphore, FORMAT, any,
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
    BoundedSemaphore, BOUNDED, bounded,
    "Makes forgotten permits free again; where none was forgotten, there is no room."
}

/// One permit of a semaphore, given back when dropped.
///
/// It belongs to this process: dropped in a forked child, it does nothing. When the process dies, it comes back within 100 ms while
/// somebody waits, unless it was forgotten.
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
            semaphore.permits().table().forget(self.place, Identity::current_packed());
        }
    }
}

impl Drop for Permit {
    #[inline]
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
