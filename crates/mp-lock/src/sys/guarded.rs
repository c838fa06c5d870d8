//! A robust mutex in shared memory, and beside it what one process remembers for as long as it lives: reached by whoever holds the mutex,
//! without a second lock.
//!
//! | state | `inside` | becomes |
//! | --- | --- | --- |
//! | free, or held by another process | false | held, by [`Guarded::lock`] |
//! | held by a thread of this process | true | free, when its [`Guard`] is dropped |
//! | left: forked while a thread was inside, or a guard forgotten | true, for ever | held, each time with a memory that starts empty |
//!
//! Invariants:
//! 1. `local` is reached by whoever changed `inside` from false to true, through his one guard, and by nobody else before that guard has
//!    changed it back. This rests on nothing that lies in shared memory: whoever writes over the mutex there lets a second thread in, who
//!    then finds `inside` true and starts with nothing remembered.
//! 2. Under an intact mutex the exchange is never contended. A mutex of the process in its place would make two; they took a fifth of a
//!    put.
//! 3. A child forked in the middle has `inside` set in its copy, and never reaches that copy of `local`.
//!
//! Memory orderings: the exchange acquires what the release store of the last guard gave. A fork copies the memory at some point of the
//! other threads' order of stores: a release fence stands between `inside = true` and the changes, the release store comes after them, so
//! no copy has a half-changed `local` beside a false `inside`.

#![expect(unsafe_code, reason = "memory of the process that a mutex outside of it guards")]

use super::robust::{Acquired, Place, RawLockError, RobustMutex};
use mp_core::Deadline;
use mp_shm::Growable;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, fence};

/// The mutex at one place of a growable memory, with a `T` of this process.
pub struct Guarded<T> {
    place: *const Place,
    inside: AtomicBool,
    local: UnsafeCell<T>,
    /// What `place` lies in.
    _memory: Growable,
}

// SAFETY: `place` stays mapped and is reached by pthread's calls only, which any thread may make; a `T` goes along.
unsafe impl<T: Send> Send for Guarded<T> {}
// SAFETY: as above, and `local` is reached by one thread at a time (invariant 1).
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T: Default> Guarded<T> {
    /// The mutex at `offset` of the fixed part, if one was made there, with nothing remembered.
    #[must_use]
    pub fn find(memory: &Growable, offset: usize) -> Option<Guarded<T>> {
        let place = RobustMutex::find(memory.fixed(), offset)?.place;
        let (inside, local) = (AtomicBool::new(false), UnsafeCell::default());
        Some(Guarded { place, inside, local, _memory: memory.clone() })
    }

    fn mutex(&self) -> RobustMutex<'_> {
        RobustMutex { place: self.place, map: PhantomData }
    }

    /// Acquires the mutex, waiting until `deadline`, and with it what this process remembers.
    ///
    /// After [`Acquired::OwnerDied`] what the mutex guards is to be repaired, then [`Guard::mark_consistent`] called.
    ///
    /// # Errors
    ///
    /// As [`RobustMutex::lock`]; `Os(EINVAL)` when somebody has written over it since it was found.
    #[inline(always)]
    pub fn lock(&self, deadline: Deadline) -> Result<(Acquired, Guard<'_, T>), RawLockError> {
        if !self.mutex().is_marked() {
            return Err(RawLockError::Os(libc::EINVAL));
        }
        let acquired = self.mutex().lock(deadline)?;
        let fresh = if self.inside.swap(true, Acquire) { Some(Box::default()) } else { None };
        fence(Release);
        Ok((acquired, Guard { guarded: self, fresh, thread: PhantomData }))
    }
}

impl<T> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("inside", &self.inside.load(Relaxed)).finish_non_exhaustive()
    }
}

/// Holds a [`Guarded`] mutex for this thread until it is dropped.
#[must_use = "the mutex is given back as soon as the guard is dropped"]
pub struct Guard<'a, T: Default> {
    guarded: &'a Guarded<T>,
    /// What is used instead of the memory that somebody left half-changed.
    fresh: Option<Box<T>>,
    /// The owner is a thread.
    thread: PhantomData<*const ()>,
}

impl<T: Default> Guard<'_, T> {
    /// What this process remembers.
    #[inline(always)]
    pub fn local(&mut self) -> &mut T {
        match &mut self.fresh {
            // SAFETY: this guard changed `inside` from false to true, and `self` is borrowed alone (invariant 1).
            None => unsafe { &mut *self.guarded.local.get() },
            Some(fresh) => fresh,
        }
    }

    /// What the mutex guards is whole again.
    pub fn mark_consistent(&self) {
        self.guarded.mutex().mark_consistent();
    }
}

impl<T: Default> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.fresh.is_none() {
            if std::thread::panicking() {
                *self.local() = T::default();
            }
            self.guarded.inside.store(false, Release);
        }
        self.guarded.mutex().unlock();
    }
}

impl<T: Default> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp_shm::{Format, HEADER};
    use std::time::Duration;

    fn guarded() -> Guarded<Vec<u8>> {
        let memory = Growable::create(Format::plain(*b"TEST", 1), 128).unwrap();
        RobustMutex::init(memory.fixed(), HEADER).unwrap();
        Guarded::find(&memory, HEADER).unwrap()
    }

    #[test]
    fn what_was_remembered_is_there_the_next_time() {
        let guarded = guarded();
        guarded.lock(Deadline::NEVER).unwrap().1.local().push(1);
        std::thread::scope(|scope| {
            scope.spawn(|| guarded.lock(Deadline::NEVER).unwrap().1.local().push(2));
        });
        assert_eq!(guarded.lock(Deadline::NEVER).unwrap().1.local(), &[1, 2]);
    }

    #[test]
    fn what_was_left_in_the_middle_is_not_reached_again() {
        let guarded = guarded();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut guard = guarded.lock(Deadline::NEVER).unwrap().1;
                guard.local().push(1);
                std::mem::forget(guard);
            });
        });
        for _ in 0..2 {
            let (acquired, mut guard) = guarded.lock(Deadline::NEVER).unwrap();
            if acquired == Acquired::OwnerDied {
                guard.mark_consistent();
            }
            assert!(guard.local().is_empty());
            guard.local().push(3);
        }
    }

    #[test]
    fn a_panic_inside_leaves_nothing_remembered() {
        let guarded = guarded();
        let panicked = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let mut guard = guarded.lock(Deadline::NEVER).unwrap().1;
                guard.local().push(1);
                panic!("inside");
            });
            inside.join().is_err()
        });
        assert!(panicked && guarded.lock(Deadline::NEVER).unwrap().1.local().is_empty());
    }

    #[test]
    fn one_at_a_time_and_never_twice() {
        let guarded = guarded();
        let _guard = guarded.lock(Deadline::NEVER).unwrap();
        assert_eq!(guarded.lock(Deadline::NEVER).unwrap_err(), RawLockError::AlreadyHeld);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| guarded.lock(Deadline::after(Duration::ZERO)).is_err());
            assert!(other.join().unwrap());
        });
    }
}
