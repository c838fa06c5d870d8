//! A lock together with what it guards.

#![expect(unsafe_code, reason = "a reference to plain data in shared memory, while the lock on it is held")]

use crate::error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
use crate::orphan::{self, BODY, Held, News, Orphanable};
use bytemuck::Pod;
use mp_core::Deadline;
use mp_shm::Format;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A plain value between processes, reached only by who holds the lock on it.
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
pub struct Mutex<T> {
    lock: Arc<Orphanable>,
    value: PhantomData<fn(T) -> T>,
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
        let lock = Orphanable::create(Self::FORMAT, size_of::<T>())?;
        lock.segment().map().copy_in(BODY, bytemuck::bytes_of(&value));
        Ok(Mutex { lock, value: PhantomData })
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

    /// Waits until the value is ours; if a holder has died, `repair` mends the value first, and the news ends here.
    ///
    /// # Errors
    ///
    /// When this thread holds it already, or the system refuses.
    pub fn acquire_or_recover(&self, repair: impl FnOnce(&mut T)) -> Result<MutexGuard<'_, T>, LockError> {
        match self.acquire() {
            Ok(guard) => Ok(guard),
            Err(error) => {
                let mut guard = error.into_guard()?;
                guard.with(repair);
                guard.mark_recovered();
                Ok(guard)
            }
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

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Mutex<T> {
        Mutex { lock: Arc::clone(&self.lock), value: PhantomData }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.debug("Mutex", f)
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lock.segment().serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mutex<T>, D::Error> {
        let lock = Orphanable::deserialize(deserializer, Self::FORMAT, size_of::<T>())?;
        Ok(Mutex { lock, value: PhantomData })
    }
}

/// Holds a [`Mutex`] for this thread until it is dropped. Dropped in a forked child, it does nothing.
#[must_use = "the mutex is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T> {
    pub(crate) held: Held<'a>,
    value: PhantomData<&'a mut T>,
}

impl<'a, T: Pod> MutexGuard<'a, T> {
    fn new(held: Held<'a>) -> MutexGuard<'a, T> {
        MutexGuard { held, value: PhantomData }
    }

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

impl<T> MutexGuard<'_, T> {
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
