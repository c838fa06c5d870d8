//! Mutual exclusion.

use crate::error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
use crate::orphan::{self, Held, News, Orphanable};
use mp_core::Deadline;
use mp_shm::{Format, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FORMAT: Format = orphan::format(*b"LOCK", 0);

/// A lock between the threads of all processes that have it.
///
/// Cloning it, or sending it to another process, gives another handle on the same lock. The holder is the thread that
/// acquired it, and only that thread releases it, by dropping the guard; where Python's `Lock` is released by somebody
/// else, use a [`Semaphore`](crate::Semaphore) of one permit.
///
/// # When a process dies
///
/// - **Holding it** (killed, or its thread ended with the guard forgotten): the next one to acquire it gets it at once,
///   as [`AcquireError::OwnerDied`] with the guard, and so does everyone after, until a holder has repaired what the lock
///   guards and says so with [`LockGuard::mark_recovered`].
/// - **Waiting for it**: nobody else notices. A wake-up that died with it is made good within 100 ms.
///
/// # Examples
///
/// ```
/// let lock = mp_lock::Lock::new()?;
/// let guard = lock.acquire()?;
/// assert!(lock.is_locked());
/// guard.release();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Lock(Arc<Orphanable>);

impl Lock {
    /// Makes a free lock.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Lock> {
        Orphanable::create(FORMAT, 0, |_| {}).map(Lock)
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = orphan::size(0);

    /// Makes a free one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Lock::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize) -> io::Result<Lock> {
        Orphanable::create_in(memory, offset, FORMAT, 0, |_| {}).map(Lock)
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Lock> {
        Orphanable::open_in(memory, offset, FORMAT, 0).map(Lock)
    }

    /// Waits until the lock is ours.
    ///
    /// # Errors
    ///
    /// [`AcquireError::OwnerDied`] carries the guard and the news that a holder died; [`AcquireError::AlreadyHeld`]
    /// when this thread holds it.
    #[inline]
    pub fn acquire(&self) -> Result<LockGuard<'_>, AcquireError<LockGuard<'static>>> {
        match self.0.acquire(Deadline::NEVER) {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(AcquireError::OwnerDied(self.owned())),
            Err(refusal) => Err(AcquireError::refused(refusal)),
        }
    }

    /// Acquires the lock if it is free now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Held`] when another holds it, else as [`acquire`](Lock::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<LockGuard<'_>, TryAcquireError<LockGuard<'static>>> {
        match self.0.try_acquire() {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(TryAcquireError::OwnerDied(self.owned())),
            Err(refusal) => Err(TryAcquireError::refused(refusal)),
        }
    }

    /// Waits at most `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](Lock::acquire).
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<LockGuard<'_>, AcquireTimeoutError<LockGuard<'static>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`; one that has passed tries once.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](Lock::acquire).
    pub fn acquire_deadline(
        &self,
        deadline: Instant,
    ) -> Result<LockGuard<'_>, AcquireTimeoutError<LockGuard<'static>>> {
        self.acquire_until(Deadline::at(deadline))
    }

    fn acquire_until(
        &self,
        deadline: Deadline,
    ) -> Result<LockGuard<'_>, AcquireTimeoutError<LockGuard<'static>>> {
        match self.0.acquire(deadline) {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(AcquireTimeoutError::OwnerDied(self.owned())),
            Err(refusal) => Err(AcquireTimeoutError::refused(refusal)),
        }
    }

    /// Waits until the lock is ours, whether or not a holder has died: for what cannot be left half-changed. The news
    /// of a death ends here.
    ///
    /// # Errors
    ///
    /// When this thread holds it already, or the system refuses.
    pub fn acquire_or_recover(&self) -> Result<LockGuard<'_>, LockError> {
        match self.acquire() {
            Ok(guard) => Ok(guard),
            Err(error) => {
                let guard = error.into_guard()?;
                guard.mark_recovered();
                Ok(guard)
            }
        }
    }

    /// Whether somebody holds it now, this thread included. May change at any time.
    #[doc(alias = "locked")]
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// Whether a holder died and nobody has marked the lock as recovered. May become true at any time while somebody
    /// holds it, and false while somebody recovers it; a death that nobody has acquired the lock after is not seen yet.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }

    #[inline]
    fn guard(&self) -> LockGuard<'_> {
        LockGuard { held: Held::new(&self.0) }
    }

    #[cold]
    fn owned(&self) -> LockGuard<'static> {
        LockGuard { held: Held::owned(&self.0) }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug("Lock", f)
    }
}

impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.segment().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lock, D::Error> {
        Orphanable::deserialize(deserializer, FORMAT, 0).map(Lock)
    }
}

/// Holds a [`Lock`] for this thread until it is dropped.
///
/// It cannot go to another thread:
///
/// ```compile_fail
/// let lock = mp_lock::Lock::new().unwrap();
/// let guard = lock.acquire().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(guard));
/// });
/// ```
///
/// Dropped in a forked child, it does nothing: the parent holds the lock.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct LockGuard<'a> {
    pub(crate) held: Held<'a>,
}

impl LockGuard<'_> {
    /// Gives the lock back, as dropping the guard does.
    pub fn release(self) {}

    /// Whether this lock came with the news of a death that nobody has dealt with.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.held.lock().is_poisoned()
    }

    /// What the lock guards is in good order again: the next one to acquire it gets no news.
    pub fn mark_recovered(&self) {
        self.held.lock().mark_recovered();
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.held.lock().debug("LockGuard", f)
    }
}
