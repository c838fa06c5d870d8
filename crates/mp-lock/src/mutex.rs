//! A lock together with what it guards.

#![expect(unsafe_code, reason = "a reference to plain data in shared memory, while the lock on it is held")]

use crate::error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
use crate::orphan::{self, BODY, Held, News, Orphanable};
use bytemuck::Pod;
use mp_core::Deadline;
use mp_shm::{Format, Mapping, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A plain value between processes, or a slice of plain values, reached only by who holds the lock on it.
///
/// Plain are numbers, arrays of them, and structs of them that derive [`bytemuck::Pod`] (here with the crate's feature
/// `derive`): whatever bytes a dead process leaves must be a valid value.
///
/// Cloning it, or sending it to another process, gives another handle on the same value. The guard copies the value
/// out and in, or lends it to a closure. It does not deref: a reference that outlives its thread, out of a leaked guard,
/// would alias the next holder's, since the lock of a thread that ends is passed on.
///
/// # When a process dies
///
/// - **Holding it** (or its thread ends): the next one to acquire it gets it at once, as [`AcquireError::OwnerDied`]
///   with the guard, and so does everyone after, until [`MutexGuard::mark_recovered`]. The value may be half-changed.
/// - **Waiting for it**: nobody else notices.
///
/// # Examples
///
/// ```
/// let total = mp_lock::Mutex::new(1_u64)?;
/// let mut guard = total.acquire()?;
/// guard.with(|total| *total += 41);
/// assert_eq!(guard.get(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A struct, and a slice:
///
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use mp_lock::Mutex;
///
/// #[derive(Clone, Copy, Pod, Zeroable)]
/// #[repr(C)]
/// struct Account {
///     number: u32,
///     cents: i32,
/// }
///
/// let account = Mutex::new(Account { number: 1, cents: 500 })?;
/// account.acquire()?.with(|account| account.cents -= 200);
///
/// let table = Mutex::from_slice(&[0_u64; 100])?;
/// table.acquire()?.with(|table| table[7] += 1);
/// assert_eq!(table.acquire()?.get(7), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutex<T: ?Sized> {
    lock: Arc<Orphanable>,
    value: PhantomData<fn(&mut T)>,
}

impl<T: Pod> Mutex<T> {
    const FORMAT: Format = {
        assert!(align_of::<T>() <= 64, "the value wants more alignment than shared memory has");
        assert!(size_of::<T>() <= u32::MAX as usize, "the value is too large for a mutex");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        orphan::format(*b"MUTX", size_of::<T>() as u32)
    };

    /// Makes a free mutex around `value`.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new(value: T) -> io::Result<Mutex<T>> {
        let fill = |map: &Mapping| map.copy_in(BODY, bytemuck::bytes_of(&value));
        Ok(Mutex::over(Orphanable::create(Self::FORMAT, size_of::<T>(), fill)?))
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = orphan::size(size_of::<T>());

    /// Makes a free one around `value` at `offset` of named memory, a multiple of 64, for programs that share nothing but the
    /// name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Mutex::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize, value: T) -> io::Result<Mutex<T>> {
        let fill = |map: &Mapping| map.copy_in(BODY, bytemuck::bytes_of(&value));
        Ok(Mutex::over(Orphanable::create_in(memory, offset, Self::FORMAT, size_of::<T>(), fill)?))
    }

    /// The one that was made at `offset` of named memory; with the type written out, `Mutex::<u64>::open_in(..)`, as there is another one for
    /// slices.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else, or around another type.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Mutex<T>> {
        Ok(Mutex::over(Orphanable::open_in(memory, offset, Self::FORMAT, size_of::<T>())?))
    }

    /// Waits until the value is ours; if a holder has died, `repair` mends the value first, and the news ends here.
    ///
    /// # Errors
    ///
    /// When this thread holds it already, or the system refuses.
    pub fn acquire_or_recover(&self, repair: impl FnOnce(&mut T)) -> Result<MutexGuard<'_, T>, LockError> {
        self.recovered(|guard| guard.with(repair))
    }
}

impl<T: Pod> Mutex<[T]> {
    const FORMAT: Format = {
        assert!(align_of::<T>() <= 64, "the values want more alignment than shared memory has");
        assert!(size_of::<T>() > 0, "a slice of nothing");
        assert!(size_of::<T>() <= u32::MAX as usize, "the values are too large for a mutex");
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        orphan::format(*b"MUTS", size_of::<T>() as u32)
    };

    /// Makes a free mutex around a copy of `values`.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn from_slice(values: &[T]) -> io::Result<Mutex<[T]>> {
        let fill = |map: &Mapping| map.copy_in(BODY, bytemuck::cast_slice(values));
        Ok(Mutex::over(Orphanable::create(Self::FORMAT, size_of_val(values), fill)?))
    }

    /// Makes a free mutex around `len` zeroed values.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn zeroed(len: usize) -> io::Result<Mutex<[T]>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mutex::over(Orphanable::create(Self::FORMAT, bytes, |_| {})?))
    }

    /// How many bytes of named memory one around `len` values takes.
    #[must_use]
    pub const fn size(len: usize) -> usize {
        orphan::size(len * size_of::<T>())
    }

    /// As [`from_slice`](Mutex::from_slice), at `offset` of named memory, a multiple of 64.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn from_slice_in(memory: &SharedMemory, offset: usize, values: &[T]) -> io::Result<Mutex<[T]>> {
        let fill = |map: &Mapping| map.copy_in(BODY, bytemuck::cast_slice(values));
        Ok(Mutex::over(Orphanable::create_in(memory, offset, Self::FORMAT, size_of_val(values), fill)?))
    }

    /// The one that was made at `offset` of named memory, as long as it was made; with the type written out, `Mutex::<[u64]>::open_in(..)`.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else, or around values of another type.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Mutex<[T]>> {
        Ok(Mutex::over(Orphanable::open_in(memory, offset, Self::FORMAT, 0)?))
    }

    /// How many values; never changes.
    #[must_use]
    pub fn len(&self) -> usize {
        length::<T>(&self.lock)
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the values are ours; if a holder has died, `repair` mends them first, and the news ends here.
    ///
    /// # Errors
    ///
    /// When this thread holds it already, or the system refuses.
    pub fn acquire_or_recover(
        &self,
        repair: impl FnOnce(&mut [T]),
    ) -> Result<MutexGuard<'_, [T]>, LockError> {
        self.recovered(|guard| guard.with(repair))
    }
}

/// How many values lie behind `lock`.
fn length<T>(lock: &Orphanable) -> usize {
    (lock.segment().map().len() - BODY) / size_of::<T>()
}

impl<T: ?Sized + 'static> Mutex<T> {
    fn over(lock: Arc<Orphanable>) -> Mutex<T> {
        Mutex { lock, value: PhantomData }
    }

    fn recovered(
        &self,
        repair: impl FnOnce(&mut MutexGuard<'static, T>),
    ) -> Result<MutexGuard<'_, T>, LockError> {
        match self.acquire() {
            Ok(guard) => Ok(guard),
            Err(error) => {
                let mut guard = error.into_guard()?;
                repair(&mut guard);
                guard.mark_recovered();
                Ok(guard)
            }
        }
    }

    /// Waits until the value is ours.
    ///
    /// # Errors
    ///
    /// [`AcquireError::OwnerDied`] carries the guard and the news that a holder died; [`AcquireError::AlreadyHeld`]
    /// when this thread holds it.
    pub fn acquire(&self) -> Result<MutexGuard<'_, T>, AcquireError<MutexGuard<'static, T>>> {
        match self.lock.acquire(Deadline::NEVER) {
            Ok(News::None) => Ok(MutexGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => Err(AcquireError::OwnerDied(MutexGuard::new(Held::owned(&self.lock)))),
            Err(refusal) => Err(AcquireError::refused(refusal)),
        }
    }

    /// Acquires the value if it is free now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Held`] when another holds it, else as [`acquire`](Mutex::acquire).
    pub fn try_acquire(&self) -> Result<MutexGuard<'_, T>, TryAcquireError<MutexGuard<'static, T>>> {
        match self.lock.try_acquire() {
            Ok(News::None) => Ok(MutexGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => Err(TryAcquireError::OwnerDied(MutexGuard::new(Held::owned(&self.lock)))),
            Err(refusal) => Err(TryAcquireError::refused(refusal)),
        }
    }

    /// Waits at most `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](Mutex::acquire).
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, AcquireTimeoutError<MutexGuard<'static, T>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`; one that has passed tries once.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](Mutex::acquire).
    pub fn acquire_deadline(
        &self,
        deadline: Instant,
    ) -> Result<MutexGuard<'_, T>, AcquireTimeoutError<MutexGuard<'static, T>>> {
        self.acquire_until(Deadline::at(deadline))
    }

    fn acquire_until(
        &self,
        deadline: Deadline,
    ) -> Result<MutexGuard<'_, T>, AcquireTimeoutError<MutexGuard<'static, T>>> {
        match self.lock.acquire(deadline) {
            Ok(News::None) => Ok(MutexGuard::new(Held::new(&self.lock))),
            Ok(News::OwnerDied) => {
                Err(AcquireTimeoutError::OwnerDied(MutexGuard::new(Held::owned(&self.lock))))
            }
            Err(refusal) => Err(AcquireTimeoutError::refused(refusal)),
        }
    }

    /// Whether somebody holds it now, this thread included. May change at any time.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether a holder died and nobody has marked it as recovered, as far as anybody has noticed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.lock.is_poisoned()
    }
}

impl<T: ?Sized> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex { lock: Arc::clone(&self.lock), value: PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.debug("Mutex", f)
    }
}

impl<T: ?Sized> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lock.segment().serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mutex<T>, D::Error> {
        Orphanable::deserialize(deserializer, Self::FORMAT, size_of::<T>()).map(Mutex::over)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Mutex<[T]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mutex<[T]>, D::Error> {
        Orphanable::deserialize(deserializer, Self::FORMAT, 0).map(Mutex::over)
    }
}

/// Holds a [`Mutex`] for this thread until it is dropped. Dropped in a forked child, it does nothing.
#[must_use = "the mutex is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(crate) held: Held<'a>,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    fn new(held: Held<'a>) -> MutexGuard<'a, T> {
        MutexGuard { held, value: PhantomData }
    }
}

impl<T: Pod> MutexGuard<'_, T> {
    /// A copy of the value.
    #[must_use]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        self.held.lock().segment().map().copy_out(BODY, bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T) {
        self.held.lock().segment().map().copy_in(BODY, bytemuck::bytes_of(&value));
    }

    /// Lends the value itself.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        let value = self.held.lock().segment().map().at::<T>(BODY);
        // SAFETY: `at` checked bounds and alignment, any bytes are a valid `T`, and nobody else reads or writes them: we
        // hold the lock, which cannot pass on while this thread is in here, and `&mut self` keeps out a second loan.
        f(unsafe { &mut *value })
    }
}

impl<T: Pod> MutexGuard<'_, [T]> {
    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        length::<T>(self.held.lock())
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the value at `index`; `None` beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        (index < self.len()).then(|| {
            let mut value = T::zeroed();
            let place = BODY + index * size_of::<T>();
            self.held.lock().segment().map().copy_out(place, bytemuck::bytes_of_mut(&mut value));
            value
        })
    }

    /// Replaces the value at `index`.
    ///
    /// # Panics
    ///
    /// Beyond the end.
    #[track_caller]
    pub fn set(&mut self, index: usize, value: T) {
        assert!(index < self.len(), "index {index} of {} values", self.len());
        self.held.lock().segment().map().copy_in(BODY + index * size_of::<T>(), bytemuck::bytes_of(&value));
    }

    /// A copy of all values.
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.len()];
        self.held.lock().segment().map().copy_out(BODY, bytemuck::cast_slice_mut(&mut values));
        values
    }

    /// Lends the values themselves.
    pub fn with<R>(&mut self, f: impl FnOnce(&mut [T]) -> R) -> R {
        let len = self.len();
        let first = self.held.lock().segment().map().at::<[T; 0]>(BODY).cast::<T>();
        // SAFETY: `len` values lie there by the mapping's own length, aligned as `at` checked; any bytes are valid values, and
        // nobody else reads or writes them, as for a single value above.
        f(unsafe { std::slice::from_raw_parts_mut(first, len) })
    }
}

impl<T: ?Sized> MutexGuard<'_, T> {
    /// Gives the mutex back, as dropping the guard does.
    pub fn release(self) {}

    /// Whether the news of a death has not been dealt with.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.held.lock().is_poisoned()
    }

    /// The value is in good order again: the next one to acquire it gets no news.
    pub fn mark_recovered(&self) {
        self.held.lock().mark_recovered();
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&self.get()).finish()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, [T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&self.to_vec()).finish()
    }
}
