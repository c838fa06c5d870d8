//! A lock that its holder may acquire again.

use crate::error::{AcquireError, AcquireTimeoutError, LockError, Refusal, TryAcquireError};
use crate::orphan::{self, News, Orphanable, Place, Suspend};
use crate::sys::pthread::is_this_thread;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const FORMAT: Format = orphan::format(*b"RLCK", 0);

/// A lock that the thread which holds it may acquire again; it is free when all its guards are dropped.
///
/// Cloning it, or sending it to another process, gives another handle on the same lock.
///
/// # When a process dies
///
/// - **Holding it**, however often: as with [`Lock`](crate::Lock), the next one to acquire it gets it at once, as
///   [`AcquireError::OwnerDied`] with the guard, held once.
/// - **Waiting for it**: nobody else notices.
///
/// # Examples
///
/// ```
/// let lock = mp_lock::RLock::new()?;
/// let outer = lock.acquire()?;
/// let inner = lock.acquire()?;
/// drop(outer);
/// assert!(lock.is_locked(), "the inner one holds it still");
/// drop(inner);
/// assert!(!lock.is_locked());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ReentrantLock")]
#[derive(Clone)]
pub struct RLock(Arc<Orphanable>);

impl RLock {
    /// Makes a free lock.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<RLock> {
        Orphanable::create(FORMAT, 0, |_| {}).map(RLock)
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = orphan::size(0);

    /// Makes a free one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](RLock::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize) -> io::Result<RLock> {
        Orphanable::create_in(memory, offset, FORMAT, 0, |_| {}).map(RLock)
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<RLock> {
        Orphanable::open_in(memory, offset, FORMAT, 0).map(RLock)
    }

    /// Waits until the lock is ours, or holds it once more.
    ///
    /// # Errors
    ///
    /// [`AcquireError::OwnerDied`] carries the guard and the news that a holder died.
    pub fn acquire(&self) -> Result<RLockGuard<'_>, AcquireError<RLockGuard<'static>>> {
        match self.enter(self.0.acquire(Deadline::NEVER)) {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(AcquireError::OwnerDied(self.owned())),
            Err(refusal) => Err(AcquireError::refused(refusal)),
        }
    }

    /// Acquires the lock if it is free or ours now.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Held`] when another holds it, else as [`acquire`](RLock::acquire).
    pub fn try_acquire(&self) -> Result<RLockGuard<'_>, TryAcquireError<RLockGuard<'static>>> {
        match self.enter(self.0.try_acquire()) {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(TryAcquireError::OwnerDied(self.owned())),
            Err(refusal) => Err(TryAcquireError::refused(refusal)),
        }
    }

    /// Waits at most `timeout`; zero tries once, [`Duration::MAX`] waits for ever.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](RLock::acquire).
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RLockGuard<'_>, AcquireTimeoutError<RLockGuard<'static>>> {
        self.acquire_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`; one that has passed tries once.
    ///
    /// # Errors
    ///
    /// [`AcquireTimeoutError::TimedOut`], else as [`acquire`](RLock::acquire).
    pub fn acquire_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RLockGuard<'_>, AcquireTimeoutError<RLockGuard<'static>>> {
        self.acquire_until(Deadline::at(deadline))
    }

    fn acquire_until(
        &self,
        deadline: Deadline,
    ) -> Result<RLockGuard<'_>, AcquireTimeoutError<RLockGuard<'static>>> {
        match self.enter(self.0.acquire(deadline)) {
            Ok(News::None) => Ok(self.guard()),
            Ok(News::OwnerDied) => Err(AcquireTimeoutError::OwnerDied(self.owned())),
            Err(refusal) => Err(AcquireTimeoutError::refused(refusal)),
        }
    }

    /// Waits until the lock is ours, whether or not a holder has died. The news of a death ends here.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn acquire_or_recover(&self) -> Result<RLockGuard<'_>, LockError> {
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

    /// Whether a holder died and nobody has marked the lock as recovered, as far as anybody has noticed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }

    /// Counts the entry; the depth is the holder's alone, under the mutex.
    fn enter(&self, outcome: Result<News, Refusal>) -> Result<News, Refusal> {
        let depth = self.0.word();
        match outcome {
            // A dead holder's count does not matter any more.
            Ok(news) => {
                depth.store(1, Ordering::Relaxed);
                Ok(news)
            }
            Err(Refusal::AlreadyHeld) => {
                let deeper = depth.load(Ordering::Relaxed).checked_add(1).ok_or(Refusal::TooMany)?;
                depth.store(deeper, Ordering::Relaxed);
                Ok(if self.0.is_poisoned() { News::OwnerDied } else { News::None })
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn guard(&self) -> RLockGuard<'_> {
        RLockGuard::new(Place::Borrowed(&self.0))
    }

    #[cold]
    fn owned(&self) -> RLockGuard<'static> {
        RLockGuard::new(Place::Owned(Arc::clone(&self.0)))
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("holder", &self.0.holder())
            .field("depth", &if self.is_locked() { self.0.word().load(Ordering::Relaxed) } else { 0 })
            .field("poisoned", &self.0.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl Serialize for RLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.segment().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RLock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RLock, D::Error> {
        Orphanable::deserialize(deserializer, FORMAT, 0).map(RLock)
    }
}

/// Holds an [`RLock`] for this thread, once, until it is dropped. Dropped in a forked child, it does nothing.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RLockGuard<'a> {
    place: Place<'a>,
    pid: u32,
    /// How often it was held before it was given back for a while; zero when it was not, or is held again.
    suspended: u32,
    not_send: PhantomData<*const ()>,
}

impl<'a> RLockGuard<'a> {
    fn new(place: Place<'a>) -> RLockGuard<'a> {
        RLockGuard { place, pid: Identity::current().pid, suspended: 0, not_send: PhantomData }
    }

    /// Gives the lock back once, as dropping the guard does.
    pub fn release(self) {}

    /// How many guards of this lock this thread has.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.place.lock().word().load(Ordering::Relaxed)
    }

    /// Whether the news of a death has not been dealt with.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.place.lock().is_poisoned()
    }

    /// What the lock guards is in good order again: the next one to acquire it gets no news.
    pub fn mark_recovered(&self) {
        self.place.lock().mark_recovered();
    }
}

impl Suspend for RLockGuard<'_> {
    fn suspend(&mut self) {
        self.suspended = self.depth();
        self.place.lock().word().store(0, Ordering::Relaxed);
        self.place.lock().release();
    }

    fn resume(&mut self) -> Result<News, Refusal> {
        let news = self.place.lock().acquire(Deadline::NEVER)?;
        self.place.lock().word().store(mem::take(&mut self.suspended), Ordering::Relaxed);
        Ok(news)
    }

    fn is_ours(&self) -> bool {
        self.place.lock().mutex().owner().is_some_and(is_this_thread)
    }
}

impl Drop for RLockGuard<'_> {
    fn drop(&mut self) {
        if self.pid != Identity::current().pid || self.suspended > 0 {
            return;
        }
        let lock = self.place.lock();
        let depth = lock.word().load(Ordering::Relaxed).saturating_sub(1);
        lock.word().store(depth, Ordering::Relaxed);
        if depth == 0 {
            lock.release();
        }
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").field("depth", &self.depth()).finish_non_exhaustive()
    }
}
