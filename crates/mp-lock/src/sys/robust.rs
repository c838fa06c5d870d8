//! A mutex in shared memory whose owner may die.
//!
//! Purpose: mutual exclusion between the threads of several processes, where the death of an owner (of its process, or of
//! just the owning thread) passes the mutex on at once, with the news. It is a pthread mutex: robust, process-shared,
//! error-checking.
//!
//! | state | lock | `unlock` by the owner | the owner dies |
//! | --- | --- | --- | --- |
//! | free | owned, [`Acquired::Clean`] | – | – |
//! | owned | others sleep; the owner gets `AlreadyHeld` | free | orphaned; the kernel wakes one sleeper |
//! | orphaned | owned inconsistently, [`Acquired::OwnerDied`] | – | – |
//! | owned inconsistently | as owned | unusable for ever | orphaned |
//! | … after `mark_consistent` | as owned | free | orphaned |
//!
//! Invariants:
//! 1. A place that `at` accepts was initialised: its mark is stored last by `init`, and never cleared.
//! 2. No sleep lasts longer than a slice. A sleeper that is woken and killed before it acts, while a third thread
//!    takes the mutex and gives it back, has swallowed the only wake; inside glibc the others would sleep for ever.
//! 3. Only the owning thread unlocks: pthread answers EPERM to all others, a forked child included.
//! 4. The memory stays mapped while a thread of this process owns the mutex: the thread's robust list points into it.
//!
//! Memory orderings are pthread's: whatever an owner wrote before it unlocked or died, the next owner sees. The mark
//! is stored with Release and read with Relaxed: the handle of the memory travels through the kernel after it.

#![expect(unsafe_code, reason = "robust process-shared mutexes exist only in pthread")]

use super::held::{self, Give, Take};
use super::pthread::{
    init, is_this_thread, lock_in_slices, mark_consistent, orphan_if_gone, owner, try_lock, unlock, word,
};
use crate::spin;
use libc::pthread_mutex_t;
use mp_core::Deadline;
use mp_shm::{Mapping, Segment};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, io};

/// How the mutex came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The last owner gave it back.
    Clean,
    /// The last owner died: what the mutex guards may be half-changed. Repair it (so that a repair may be begun again,
    /// should this process die too), call [`RobustMutex::mark_consistent`], then go on.
    OwnerDied,
}

/// Why the mutex was not acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawLockError {
    /// Somebody else owns it, and the time is over; for `try_lock`, at once.
    TimedOut,
    /// The calling thread owns it already.
    AlreadyHeld,
    /// It was unlocked after a death without having been marked consistent, and is lost.
    NotRecoverable,
    /// The system refused, with this error number.
    Os(i32),
}

impl fmt::Display for RawLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawLockError::TimedOut => f.write_str("the mutex is held by another thread"),
            RawLockError::AlreadyHeld => f.write_str("the mutex is held by this thread already"),
            RawLockError::NotRecoverable => f.write_str("the mutex was given up by whoever repaired it"),
            RawLockError::Os(errno) => {
                write!(f, "acquire a mutex in shared memory: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for RawLockError {}

impl From<RawLockError> for io::Error {
    fn from(error: RawLockError) -> io::Error {
        match error {
            RawLockError::TimedOut => io::Error::new(io::ErrorKind::TimedOut, error),
            RawLockError::AlreadyHeld => io::Error::new(io::ErrorKind::Deadlock, error),
            RawLockError::NotRecoverable => io::Error::other(error),
            RawLockError::Os(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

/// What lies in shared memory.
#[repr(C)]
pub(super) struct Place {
    mutex: pthread_mutex_t,
    mark: AtomicU32,
    reserved: AtomicU32,
}

const MARK: u32 = u32::from_ne_bytes(*b"rob1");

/// A view of the mutex at one place of a mapping. Cheap to make, free to copy.
#[derive(Clone, Copy)]
pub struct RobustMutex<'a> {
    pub(super) place: *const Place,
    pub(super) map: PhantomData<&'a Mapping>,
}

impl<'a> RobustMutex<'a> {
    /// How many bytes it takes.
    pub const SIZE: usize = size_of::<Place>();
    /// What its offset must be a multiple of.
    pub const ALIGN: usize = align_of::<Place>();

    /// Makes a free mutex at `offset`, in memory that nobody else uses yet: once, before the memory is shared.
    ///
    /// # Errors
    ///
    /// When the system has no robust mutexes, or there is a mutex already.
    ///
    /// # Panics
    ///
    /// When it does not fit, or `offset` is not aligned.
    pub fn init(map: &Mapping, offset: usize) -> io::Result<()> {
        let place = map.at::<Place>(offset);
        // SAFETY: `Mapping::at` checked bounds and alignment; an atomic, valid for any bytes.
        let mark = unsafe { &(*place).mark };
        if mark.load(Ordering::Acquire) == MARK {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a mutex already"));
        }
        // SAFETY: a field of the place checked above.
        let mutex = unsafe { &raw mut (*place).mutex };
        init(mutex, libc::PTHREAD_MUTEX_ERRORCHECK)?;
        mark.store(MARK, Ordering::Release);
        Ok(())
    }

    /// The mutex at `offset`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[inline]
    #[must_use]
    pub fn at(map: &'a Mapping, offset: usize) -> RobustMutex<'a> {
        let place = map.at::<Place>(offset).cast_const();
        // SAFETY: `Mapping::at` checked bounds and alignment; an atomic, valid for any bytes.
        let mark = unsafe { &(*place).mark };
        assert!(mark.load(Ordering::Relaxed) == MARK, "no mutex at offset {offset}");
        RobustMutex { place, map: PhantomData }
    }

    /// The mutex at `offset`, if one was made there.
    #[must_use]
    pub fn find(map: &'a Mapping, offset: usize) -> Option<RobustMutex<'a>> {
        let end = offset.checked_add(RobustMutex::SIZE)?;
        if end > map.len() || !offset.is_multiple_of(RobustMutex::ALIGN) {
            return None;
        }
        let place = map.at::<Place>(offset).cast_const();
        // SAFETY: `Mapping::at` checked bounds and alignment; an atomic, valid for any bytes.
        let mark = unsafe { &(*place).mark };
        (mark.load(Ordering::Relaxed) == MARK).then_some(RobustMutex { place, map: PhantomData })
    }

    /// Whether the mark is still there: nobody has written over it since it was found.
    #[inline]
    pub(super) fn is_marked(&self) -> bool {
        // SAFETY: `at` or `find` checked bounds and alignment; an atomic, valid for any bytes.
        let mark = unsafe { &(*self.place).mark };
        mark.load(Ordering::Relaxed) == MARK
    }

    #[inline]
    fn raw(&self) -> *mut pthread_mutex_t {
        self.place.cast_mut().cast()
    }

    /// The thread that owns it now, by its id in the pid namespace of that thread; `None` while it is free, also when
    /// its owner has died. May change at any time.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        // SAFETY: a mutex was initialised here (invariant 1), and the mapping lives as long as `self`.
        unsafe { owner(self.raw()) }
    }

    /// Acquires it if it is free.
    ///
    /// # Errors
    ///
    /// `TimedOut` when another thread owns it; `Os(EINVAL)` when it was written over.
    #[inline(always)]
    pub fn try_lock(&self) -> Result<Acquired, RawLockError> {
        // SAFETY: as in `owner`; the kind is what `init` made it.
        match unsafe { held::take(self.raw()) } {
            Take::Taken => Ok(Acquired::Clean),
            Take::Ours => Err(RawLockError::AlreadyHeld),
            Take::Held => Err(RawLockError::TimedOut),
            Take::Lost => Err(RawLockError::NotRecoverable),
            Take::Ask => self.ask_for(),
        }
    }

    /// Has the C library acquire it, if it is free.
    #[cold]
    fn ask_for(&self) -> Result<Acquired, RawLockError> {
        self.check_kind()?;
        // SAFETY: as in `owner`.
        let ask = || unsafe { try_lock(self.raw()) };
        // SAFETY: as in `owner`.
        unsafe { held::beside(self.raw(), ask, Result::is_ok) }
    }

    /// The C library takes the mutex for what it says to be.
    fn check_kind(&self) -> Result<(), RawLockError> {
        // SAFETY: as in `owner`.
        if unsafe { held::is_of_kind(self.raw(), held::KIND) } {
            return Ok(());
        }
        Err(RawLockError::Os(libc::EINVAL))
    }

    /// Acquires it, waiting until `deadline`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or `AlreadyHeld` by the calling thread; `Os(EINVAL)` when it was written over.
    #[inline(always)]
    pub fn lock(&self, deadline: Deadline) -> Result<Acquired, RawLockError> {
        match self.try_lock() {
            Err(RawLockError::TimedOut) => self.lock_contended(deadline, |_| false),
            done => done,
        }
    }

    /// The same, and takes it from an owner that is no thread any more without having died: one that was not the first of its process and
    /// became another program by `exec` while it owned the mutex. It has the first one's id then, by which the kernel does not find it
    /// to be the owner.
    ///
    /// Only where all owners are of this pid namespace.
    #[inline(always)]
    pub(crate) fn lock_or_inherit(&self, deadline: Deadline) -> Result<Acquired, RawLockError> {
        match self.try_lock() {
            Err(RawLockError::TimedOut) => self.lock_contended(deadline, orphan_if_gone),
            done => done,
        }
    }

    /// [`try_lock`](Self::try_lock) which inherits as [`lock_or_inherit`](Self::lock_or_inherit) does.
    #[inline(always)]
    pub(crate) fn try_lock_or_inherit(&self) -> Result<Acquired, RawLockError> {
        match self.try_lock() {
            Err(RawLockError::TimedOut) => self.try_to_inherit(),
            done => done,
        }
    }

    #[cold]
    fn try_to_inherit(&self) -> Result<Acquired, RawLockError> {
        // SAFETY: as in `owner`.
        if orphan_if_gone(unsafe { word(self.raw()) }) {
            self.try_lock()
        } else {
            Err(RawLockError::TimedOut)
        }
    }

    #[cold]
    fn lock_contended(
        &self,
        deadline: Deadline,
        look: impl Fn(&AtomicU32) -> bool,
    ) -> Result<Acquired, RawLockError> {
        let mut tried = Err(RawLockError::TimedOut);
        let settled = spin::brief(|| {
            // Looking changes nothing, so the line stays with the owner.
            if self.owner().is_none() {
                tried = self.try_lock();
            }
            tried != Err(RawLockError::TimedOut)
        });
        if settled {
            return tried;
        }
        self.check_kind()?;
        // SAFETY: as in `owner`.
        let ask = || unsafe { lock_in_slices(self.raw(), deadline, look) };
        // SAFETY: as in `owner`.
        unsafe { held::beside(self.raw(), ask, Result::is_ok) }
    }

    /// What the mutex guards is whole again. Only after [`Acquired::OwnerDied`], before [`unlock`](Self::unlock).
    #[inline]
    pub fn mark_consistent(&self) {
        if self.is_ours_and_of_its_kind() {
            // SAFETY: as in `owner`.
            unsafe { mark_consistent(self.raw()) };
        }
    }

    /// Gives it back; false, and nothing happens, when the calling thread does not own it (in a forked child, say).
    #[inline(always)]
    pub fn unlock(&self) -> bool {
        // SAFETY: as in `try_lock`.
        match unsafe { held::give(self.raw()) } {
            Give::Given => true,
            Give::Gone => false,
            Give::Ask => self.ask_to_unlock(),
        }
    }

    /// Has the C library give it back.
    #[cold]
    fn ask_to_unlock(&self) -> bool {
        // SAFETY: as in `owner`.
        let ask = || self.is_ours_and_of_its_kind() && unsafe { unlock(self.raw()) };
        // SAFETY: as in `owner`.
        unsafe { held::beside(self.raw(), ask, |_| false) }
    }

    /// Whether the calling thread owns it. If so the kind is what it was made, so that the C library does what is meant: refusing would
    /// leave the mutex held.
    fn is_ours_and_of_its_kind(&self) -> bool {
        let ours = self.owner().is_some_and(is_this_thread);
        if ours {
            // SAFETY: as in `owner`, and it is ours.
            unsafe { held::mend_kind(self.raw()) };
        }
        ours
    }
}

/// A mutex with two words behind it, together with the memory that they lie in: looked for once, then only reached.
pub(crate) struct Anchored {
    place: *const Flagged,
    segment: Segment,
}

/// What lies there.
#[repr(C)]
struct Flagged {
    place: Place,
    words: [AtomicU32; 2],
}

// SAFETY: all that lies there is reached through atomics and pthread's calls, which any thread may make.
unsafe impl Send for Anchored {}
// SAFETY: as above.
unsafe impl Sync for Anchored {}

impl Anchored {
    /// The mutex at `offset` of `segment`, if one was made there.
    pub(crate) fn find(segment: Segment, offset: usize) -> Option<Anchored> {
        let map = segment.map();
        let end = offset.checked_add(size_of::<Flagged>())?;
        if end > map.len() || RobustMutex::find(map, offset).is_none() {
            return None;
        }
        let place = map.at::<Flagged>(offset).cast_const();
        Some(Anchored { place, segment })
    }

    #[inline]
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    #[inline]
    pub(crate) fn mutex(&self) -> RobustMutex<'_> {
        RobustMutex { place: self.place.cast(), map: PhantomData }
    }

    /// The words behind the mutex.
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU32; 2] {
        // SAFETY: `find` checked bounds and alignment, the segment keeps it mapped, and any bytes are valid atomics.
        unsafe { &(*self.place).words }
    }
}

impl fmt::Debug for RobustMutex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustMutex").field("owner", &self.owner()).finish_non_exhaustive()
    }
}
