//! Many readers or one writer: readers share, a writer has it alone, and the dead keep nobody out.
//!
//! | bytes behind the mutex | field |
//! | --- | --- |
//! | the mutex's word | 1 while somebody writes |
//! | 0..4 | gate: a share was given back |
//! | 4..8 | how many shares were ever taken |
//! | 64.. | the shares: owner; thread and depth (see `raw/shares.rs`) |
//! | then | the value |
//!
//! | who | does |
//! | --- | --- |
//! | reader | acquires the mutex, takes a share, gives the mutex back; later gives the share back |
//! | writer | acquires the mutex, waits until no share is taken, sets the word; later clears it, gives the mutex back |
//!
//! The death of whoever owned the mutex is news exactly if the word says that he wrote.

#![expect(unsafe_code, reason = "references to plain data in shared memory, while the lock on it is held")]

use crate::error::{AcquireError, AcquireTimeoutError, LockError, Refusal, TryAcquireError};
use crate::orphan::{self, BODY, Held, News, Orphanable, Owner, Place};
use crate::raw::gate::Gate;
use crate::raw::shares::{Full, Shares};
use crate::raw::sync::Watch;
use crate::raw::{Acquired, RawLockError};
use crate::sys::pthread::this_thread;
use bytemuck::Pod;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, Mapping, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GATE: usize = BODY;
const USED: usize = BODY + 4;
const SHARES: usize = BODY + 64;
const VALUE: usize = SHARES + MAX_READERS * 16;

const _: () = assert!(VALUE.is_multiple_of(64));

/// The most threads that can read at once.
pub const MAX_READERS: usize = 1024;

/// A plain value between processes that many may read at once, or one may write.
///
/// Without a value, `RwLock<()>` guards what lies elsewhere. Cloning it, or sending it to another process, gives another
/// handle on the same lock. A waiting writer lets no new readers in; a thread that reads already may read again.
/// As with [`Mutex`](crate::Mutex), guards lend the value to closures and copy it.
///
/// # When a process dies
///
/// - **Writing** (or its thread ends): the next one to read or write gets in at once, as [`AcquireError::OwnerDied`] with
///   the guard, and so does everyone after, until a writer's [`WriteGuard::mark_recovered`].
/// - **Reading**: its share comes back within 100 ms while a writer waits; no news. A *thread* that ends reading, its
///   guard forgotten, keeps its share as long as its process lives.
/// - **Waiting**: nobody else notices.
///
/// # Examples
///
/// ```
/// let table = mp_lock::RwLock::new([0_u32; 4])?;
/// table.write()?.with(|table| table[2] = 7);
/// let (one, two) = (table.read()?, table.read()?);
/// assert_eq!(one.get()[2] + two.with(|table| table[2]), 14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RwLock<T = ()> {
    lock: Arc<Orphanable>,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Pod> RwLock<T> {
    const FORMAT: Format = {
        assert!(align_of::<T>() <= 64, "the value wants more alignment than shared memory has");
        assert!(size_of::<T>() <= u32::MAX as usize, "the value is too large for a lock");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        orphan::format(*b"RWLK", size_of::<T>() as u32)
    };
    const BODY_SIZE: usize = VALUE - BODY + size_of::<T>();

    /// Makes a free lock around `value`.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new(value: T) -> io::Result<RwLock<T>> {
        let lock = Orphanable::create(Self::FORMAT, Self::BODY_SIZE, |map| write(map, &value))?;
        Ok(RwLock { lock, value: PhantomData })
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = orphan::size(Self::BODY_SIZE);

    /// Makes a free one around `value` at `offset` of named memory, a multiple of 64, for programs that share nothing but the
    /// name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](RwLock::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize, value: T) -> io::Result<RwLock<T>> {
        let fill = |map: &Mapping| write(map, &value);
        let lock = Orphanable::create_in(memory, offset, Self::FORMAT, Self::BODY_SIZE, fill)?;
        Ok(RwLock { lock, value: PhantomData })
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else, or around another type.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<RwLock<T>> {
        let lock = Orphanable::open_in(memory, offset, Self::FORMAT, Self::BODY_SIZE)?;
        Ok(RwLock { lock, value: PhantomData })
    }

    /// Waits until nobody writes, and shares the value.
    ///
    /// # Errors
    ///
    /// [`AcquireError::OwnerDied`] carries the guard and the news that a writer died; [`AcquireError::AlreadyHeld`] when
    /// this thread writes; [`AcquireError::TooMany`] when [`MAX_READERS`] read already.
    pub fn read(&self) -> Result<ReadGuard<'_, T>, AcquireError<ReadGuard<'static, T>>> {
        match enter_reading(&self.lock, Some(Deadline::NEVER)) {
            Ok((News::None, place)) => Ok(ReadGuard::new(Place::Borrowed(&self.lock), place)),
            Ok((News::OwnerDied, place)) => Err(AcquireError::OwnerDied(self.owned_read(place))),
            Err(refusal) => Err(AcquireError::refused(refusal)),
        }
    }

    /// Shares the value if nobody writes or waits to write now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Held`], else as [`read`](RwLock::read).
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>, TryAcquireError<ReadGuard<'static, T>>> {
        match enter_reading(&self.lock, None) {
            Ok((News::None, place)) => Ok(ReadGuard::new(Place::Borrowed(&self.lock), place)),
            Ok((News::OwnerDied, place)) => Err(TryAcquireError::OwnerDied(self.owned_read(place))),
            Err(refusal) => Err(TryAcquireError::refused(refusal)),
        }
    }

    /// As [`read`](RwLock::read), at most for `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`read`](RwLock::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReadGuard<'_, T>, AcquireTimeoutError<ReadGuard<'static, T>>> {
        self.read_until(Deadline::after(timeout))
    }

    /// As [`read`](RwLock::read), at most until `deadline`.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`read`](RwLock::read).
    pub fn read_deadline(
        &self,
        deadline: Instant,
    ) -> Result<ReadGuard<'_, T>, AcquireTimeoutError<ReadGuard<'static, T>>> {
        self.read_until(Deadline::at(deadline))
    }

    fn read_until(
        &self,
        deadline: Deadline,
    ) -> Result<ReadGuard<'_, T>, AcquireTimeoutError<ReadGuard<'static, T>>> {
        match enter_reading(&self.lock, Some(deadline)) {
            Ok((News::None, place)) => Ok(ReadGuard::new(Place::Borrowed(&self.lock), place)),
            Ok((News::OwnerDied, place)) => Err(AcquireTimeoutError::OwnerDied(self.owned_read(place))),
            Err(refusal) => Err(AcquireTimeoutError::refused(refusal)),
        }
    }

    /// Waits until the value is ours alone.
    ///
    /// # Errors
    ///
    /// [`AcquireError::OwnerDied`] carries the guard and the news that a writer died; [`AcquireError::AlreadyHeld`] when
    /// this thread reads or writes.
    pub fn write(&self) -> Result<WriteGuard<'_, T>, AcquireError<WriteGuard<'static, T>>> {
        match enter_writing(&self.lock, Some(Deadline::NEVER)) {
            Ok(News::None) => Ok(WriteGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => Err(AcquireError::OwnerDied(WriteGuard::new(Held::owned(&self.lock)))),
            Err(refusal) => Err(AcquireError::refused(refusal)),
        }
    }

    /// Takes the value if nobody reads or writes now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Held`], else as [`write`](RwLock::write).
    pub fn try_write(&self) -> Result<WriteGuard<'_, T>, TryAcquireError<WriteGuard<'static, T>>> {
        match enter_writing(&self.lock, None) {
            Ok(News::None) => Ok(WriteGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => Err(TryAcquireError::OwnerDied(WriteGuard::new(Held::owned(&self.lock)))),
            Err(refusal) => Err(TryAcquireError::refused(refusal)),
        }
    }

    /// As [`write`](RwLock::write), at most for `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`write`](RwLock::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<WriteGuard<'_, T>, AcquireTimeoutError<WriteGuard<'static, T>>> {
        self.write_until(Deadline::after(timeout))
    }

    /// As [`write`](RwLock::write), at most until `deadline`.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`write`](RwLock::write).
    pub fn write_deadline(
        &self,
        deadline: Instant,
    ) -> Result<WriteGuard<'_, T>, AcquireTimeoutError<WriteGuard<'static, T>>> {
        self.write_until(Deadline::at(deadline))
    }

    fn write_until(
        &self,
        deadline: Deadline,
    ) -> Result<WriteGuard<'_, T>, AcquireTimeoutError<WriteGuard<'static, T>>> {
        match enter_writing(&self.lock, Some(deadline)) {
            Ok(News::None) => Ok(WriteGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => {
                Err(AcquireTimeoutError::OwnerDied(WriteGuard::new(Held::owned(&self.lock))))
            }
            Err(refusal) => Err(AcquireTimeoutError::refused(refusal)),
        }
    }

    /// Whether a writer died and nobody has marked it as recovered, as far as anybody has noticed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.lock.is_poisoned()
    }

    /// Waits until the value is ours alone; if a writer has died, `repair` mends the value first, and the news ends here.
    ///
    /// # Errors
    ///
    /// When this thread reads or writes already, or the system refuses.
    pub fn write_or_recover(&self, repair: impl FnOnce(&mut T)) -> Result<WriteGuard<'_, T>, LockError> {
        match self.write() {
            Ok(guard) => Ok(guard),
            Err(error) => {
                let mut guard = error.into_guard()?;
                guard.with(repair);
                guard.mark_recovered();
                Ok(guard)
            }
        }
    }

    #[cold]
    fn owned_read(&self, place: usize) -> ReadGuard<'static, T> {
        ReadGuard::new(Place::Owned(Arc::clone(&self.lock)), place)
    }
}

fn write<T: Pod>(map: &Mapping, value: &T) {
    map.copy_in(VALUE, bytemuck::bytes_of(value));
}

fn shares<'a>(
    lock: &'a Orphanable,
) -> Shares<'a, impl Fn(usize) -> &'a AtomicU64, impl Fn(usize) -> &'a AtomicU64> {
    let map = lock.segment().map();
    Shares {
        gate: Gate(map.atomic_u32(GATE)),
        used: map.atomic_u32(USED),
        most: MAX_READERS,
        owner: move |place: usize| map.atomic_u64(SHARES + place * 16),
        depth: move |place: usize| map.atomic_u64(SHARES + place * 16 + 8),
    }
}

/// The share of this thread.
fn own_share(lock: &Orphanable) -> Option<usize> {
    shares(lock).own(Identity::current().pack(), this_thread())
}

/// Acquires the mutex; `None` tries once.
fn enter(lock: &Orphanable, deadline: Option<Deadline>) -> Result<News, RawLockError> {
    let acquired = match deadline {
        Some(deadline) => lock.mutex().lock_or_inherit(deadline)?,
        None => lock.mutex().try_lock_or_inherit()?,
    };
    Ok(entered(lock, acquired))
}

fn entered(lock: &Orphanable, acquired: Acquired) -> News {
    let news = lock.received(acquired, || lock.word().load(Ordering::Relaxed) != 0);
    lock.word().store(0, Ordering::Relaxed);
    news
}

fn enter_reading(lock: &Orphanable, deadline: Option<Deadline>) -> Result<(News, usize), Refusal> {
    let news = match lock.mutex().try_lock() {
        Ok(acquired) => entered(lock, acquired),
        Err(RawLockError::TimedOut) => {
            if let Some(place) = own_share(lock) {
                return go_deeper(lock, place);
            }
            enter(lock, deadline)?
        }
        Err(error) => return Err(error.into()),
    };
    let place = shares(lock).take(Identity::current().pack(), this_thread(), Identity::packed_is_alive);
    mp_core::step!("rwlock.read", 2);
    lock.release();
    Ok((news, place.ok_or(Refusal::TooMany)?))
}

fn go_deeper(lock: &Orphanable, place: usize) -> Result<(News, usize), Refusal> {
    shares(lock).go_deeper(place).map_err(|Full| Refusal::TooMany)?;
    Ok((if lock.is_poisoned() { News::OwnerDied } else { News::None }, place))
}

fn enter_writing(lock: &Orphanable, deadline: Option<Deadline>) -> Result<News, Refusal> {
    let news = match enter(lock, None) {
        Ok(news) => news,
        // Who reads and waits for a writer who waits for him would wait for ever.
        Err(RawLockError::TimedOut) if own_share(lock).is_some() => return Err(Refusal::AlreadyHeld),
        Err(RawLockError::TimedOut) if deadline.is_some() => enter(lock, deadline)?,
        Err(error) => return Err(error.into()),
    };
    mp_core::step!("rwlock.write", 1);
    if let Err(refusal) = await_readers(lock, deadline) {
        lock.release();
        return Err(refusal);
    }
    mp_core::step!("rwlock.write", 2);
    lock.word().store(1, Ordering::Relaxed);
    mp_core::step!("rwlock.write", 3);
    Ok(news)
}

/// Waits, holding the mutex, until no share is taken; `None` does not wait.
fn await_readers(lock: &Orphanable, deadline: Option<Deadline>) -> Result<(), Refusal> {
    let shares = shares(lock);
    if shares.none() {
        return Ok(());
    }
    if own_share(lock).is_some() {
        return Err(Refusal::AlreadyHeld);
    }
    let watch = Watch::until(deadline.unwrap_or(Deadline::after(Duration::ZERO)));
    if shares.await_none(watch, Identity::packed_is_alive) { Ok(()) } else { Err(Refusal::NotNow) }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> RwLock<T> {
        RwLock { lock: Arc::clone(&self.lock), value: PhantomData }
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_writing = self.lock.word().load(Ordering::Relaxed) != 0;
        f.debug_struct("RwLock")
            .field("writer", &self.lock.holder().filter(|_| is_writing))
            .field("readers", &shares(&self.lock).readers().into_iter().map(Owner).collect::<Vec<_>>())
            .field("poisoned", &self.lock.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl<T> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lock.segment().serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RwLock<T>, D::Error> {
        let lock = Orphanable::deserialize(deserializer, Self::FORMAT, Self::BODY_SIZE)?;
        Ok(RwLock { lock, value: PhantomData })
    }
}

/// Shares an [`RwLock`] for this thread until it is dropped. Dropped in a forked child, it does nothing.
#[must_use = "the share is given back as soon as the guard is dropped"]
pub struct ReadGuard<'a, T> {
    lock: Place<'a>,
    place: usize,
    pid: u32,
    value: PhantomData<(&'a T, *const ())>,
}

impl<'a, T> ReadGuard<'a, T> {
    fn new(lock: Place<'a>, place: usize) -> ReadGuard<'a, T> {
        ReadGuard { lock, place, pid: Identity::current().pid, value: PhantomData }
    }

    /// Gives the share back, as dropping the guard does.
    pub fn release(self) {}

    /// Whether the news of a writer's death has not been dealt with.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.lock.lock().is_poisoned()
    }
}

impl<T: Pod> ReadGuard<'_, T> {
    /// A copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        self.with(|value| *value)
    }

    /// Lends the value itself.
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let value = self.lock.lock().segment().map().at::<T>(VALUE);
        // SAFETY: `at` checked bounds and alignment, any bytes are a valid `T`, and nobody writes them while we share.
        f(unsafe { &*value })
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        if self.pid == Identity::current().pid {
            shares(self.lock.lock()).give_back(self.place);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&self.get()).finish()
    }
}

/// Has an [`RwLock`] alone for this thread until it is dropped. Dropped in a forked child, it does nothing.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct WriteGuard<'a, T> {
    held: Held<'a>,
    pid: u32,
    value: PhantomData<&'a mut T>,
}

impl<'a, T> WriteGuard<'a, T> {
    fn new(held: Held<'a>) -> WriteGuard<'a, T> {
        WriteGuard { held, pid: Identity::current().pid, value: PhantomData }
    }

    /// Gives the lock back, as dropping the guard does.
    pub fn release(self) {}

    /// Whether the news of a writer's death has not been dealt with.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.held.lock().is_poisoned()
    }

    /// The value is in good order again: the next one gets no news.
    pub fn mark_recovered(&self) {
        self.held.lock().mark_recovered();
    }
}

impl<T: Pod> WriteGuard<'_, T> {
    /// A copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        self.held.lock().segment().map().copy_out(VALUE, bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T) {
        self.held.lock().segment().map().copy_in(VALUE, bytemuck::bytes_of(&value));
    }

    /// Lends the value itself.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        let value = self.held.lock().segment().map().at::<T>(VALUE);
        // SAFETY: `at` checked bounds and alignment, any bytes are a valid `T`, and nobody else reads or writes them: we
        // hold the lock, which cannot pass on while this thread is in here, and `&mut self` keeps out a second loan.
        f(unsafe { &mut *value })
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // Before the mutex goes back: a death from here on is no news.
        if self.pid == Identity::current().pid {
            self.held.lock().word().store(0, Ordering::Relaxed);
            mp_core::step!("rwlock.write", 4);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&self.get()).finish()
    }
}
