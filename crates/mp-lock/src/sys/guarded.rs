//! A robust mutex in shared memory, and beside it what one process remembers for as long as it lives: reached by whoever holds the mutex,
//! without a second lock.
//!
//! What is remembered lies in *rooms*. The first few threads that come each get one to themselves; all others share the last one, the
//! hall, and pay an exchange for it. Such an exchange waits until all stores before it have reached the other cores' caches, those of the
//! last message among them: with one in each operation a stream through a queue takes twice as long.
//!
//! | state of a room | `thread` | `inside` | becomes |
//! | --- | --- | --- | --- |
//! | unused | 0 | false | empty, by the first thread that finds no room of its own |
//! | empty, or the mutex held by another process | its owner; the hall has none | false | entered, by [`Guarded::lock`] |
//! | entered by a thread of this process | as above | true | empty, when its [`Guard`] is dropped |
//! | left: forked while a thread was inside, or a guard forgotten | as above | true, for ever | – : who would enter starts with nothing remembered |
//! | its owner has ended | a number of no thread | false | its new owner's, by one exchange |
//!
//! Invariants:
//! 1. `local` of a room is reached by its owner alone, and of the hall by whoever changed `inside` from false to true; through one guard,
//!    and by nobody else before that guard has changed `inside` back. This rests on nothing that lies in shared memory: whoever writes over the mutex there
//!    lets a second thread in, who has another room, or finds the hall entered and starts with nothing remembered.
//! 2. No two threads of a process have the same number at one time, and it is asked of the system by each thread itself. Only of a thread
//!    that the system does not know any more is a room taken.
//! 3. A child forked in the middle has `inside` set in its copy, and never reaches that copy of `local`. Its threads have other numbers; one
//!    that gets the number of a thread of the parent finds that one's room, empty, and it is whole.
//!
//! Memory orderings: the exchange in the hall acquires what the release store of the last guard gave; a room's owner sees its own stores,
//! and a new one asked the system about the old one, whose last store came before its end. A fork copies the memory at some point of the
//! other threads' order of stores: a release fence stands between `inside = true` and the changes, the release store comes after them, so
//! no copy has a half-changed `local` beside a false `inside`.

#![expect(unsafe_code, reason = "memory of the process that a mutex outside of it guards")]

use super::pthread::{this_thread, thread_exists};
use super::robust::{Acquired, Place, RawLockError, RobustMutex};
use mp_core::Deadline;
use mp_shm::Growable;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, fence};

/// Threads of a process that have a room to themselves.
const ROOMS: usize = 4;

/// How often somebody enters the hall before he looks whether a room's owner has ended.
const LOOK_EVERY: u32 = 256;

/// What one thread remembers, or in the hall whoever comes. Alone in its cache lines: threads that take turns write to their own.
#[derive(Default)]
#[repr(align(128))]
struct Room<T> {
    /// Zero for nobody's.
    thread: AtomicU32,
    inside: AtomicBool,
    local: UnsafeCell<T>,
}

/// The mutex at one place of a growable memory, with a `T` of this process.
pub struct Guarded<T> {
    place: *const Place,
    rooms: [Room<T>; ROOMS],
    hall: Room<T>,
    /// How often the hall was entered.
    entered: AtomicU32,
    /// What `place` lies in.
    _memory: Growable,
}

// SAFETY: `place` stays mapped and is reached by pthread's calls only, which any thread may make; a `T` goes along.
unsafe impl<T: Send> Send for Guarded<T> {}
// SAFETY: as above, and each `local` is reached by one thread at a time (invariant 1).
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T: Default> Guarded<T> {
    /// The mutex at `offset` of the fixed part, if one was made there, with nothing remembered.
    #[must_use]
    pub fn find(memory: &Growable, offset: usize) -> Option<Guarded<T>> {
        let place = RobustMutex::find(memory.fixed(), offset)?.place;
        let (rooms, hall) = (Default::default(), Room::default());
        Some(Guarded { place, rooms, hall, entered: AtomicU32::new(0), _memory: memory.clone() })
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
        let memory = self.enter();
        fence(Release);
        Ok((acquired, Guard { guarded: self, memory, thread: PhantomData }))
    }

    /// Runs `inside` with the mutex held if it is free and this thread has a room of its own; `None` when not, for whatever reason, and whoever calls has
    /// [`lock`](Guarded::lock) as another way. After a death `repair` is called before, which may be begun again by others.
    ///
    /// What is passed on in registers: a guard that goes through memory is written and read in pieces of different sizes, and such a read waits, as an
    /// exchange does, until all stores before it are done.
    #[inline(always)]
    pub fn try_with<R>(&self, repair: impl FnOnce(), inside: impl FnOnce(&mut T) -> R) -> Option<R> {
        let [room, ..] = &self.rooms;
        let own = room.thread.load(Relaxed) == this_thread() && !room.inside.load(Relaxed);
        if !own || !self.mutex().is_marked() {
            return None;
        }
        let acquired = self.mutex().try_lock().ok()?;
        room.inside.store(true, Relaxed);
        fence(Release);
        let leave = Leave(self, room);
        if acquired == Acquired::OwnerDied {
            repair();
            self.mutex().mark_consistent();
        }
        // SAFETY: this thread's room, and it has changed `inside` from false to true (invariant 1).
        let done = inside(unsafe { &mut *room.local.get() });
        drop(leave);
        Some(done)
    }

    #[inline(always)]
    fn enter(&self) -> Memory<'_, T> {
        let me = this_thread();
        let [first, ..] = &self.rooms;
        if first.thread.load(Relaxed) == me { first.enter_as_owner() } else { self.enter_another(me) }
    }

    fn enter_another(&self, me: u32) -> Memory<'_, T> {
        if let Some(own) = self.rooms.iter().find(|room| room.thread.load(Relaxed) == me) {
            return own.enter_as_owner();
        }
        let entered = self.entered.fetch_add(1, Relaxed);
        let left = |owner: u32| owner == 0 || (entered.is_multiple_of(LOOK_EVERY) && !thread_exists(owner));
        let taken = self.rooms.iter().find(|room| {
            let owner = room.thread.load(Relaxed);
            left(owner) && room.thread.compare_exchange(owner, me, AcqRel, Relaxed).is_ok()
        });
        if let Some(own) = taken {
            return own.enter_as_owner();
        }
        if self.hall.inside.swap(true, Acquire) {
            Memory::Fresh(Box::default())
        } else {
            Memory::Room(&self.hall)
        }
    }
}

impl<T: Default> Room<T> {
    /// By its owner, who may be inside already only when the mutex let him in twice.
    #[inline(always)]
    fn enter_as_owner(&self) -> Memory<'_, T> {
        if self.inside.load(Relaxed) {
            return Memory::Fresh(Box::default());
        }
        self.inside.store(true, Relaxed);
        Memory::Room(self)
    }
}

impl<T> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("entered", &self.entered.load(Relaxed)).finish_non_exhaustive()
    }
}

/// Leaves a room and gives the mutex back.
struct Leave<'a, T: Default>(&'a Guarded<T>, &'a Room<T>);

impl<T: Default> Drop for Leave<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let Leave(guarded, room) = self;
        if std::thread::panicking() {
            // SAFETY: this thread is inside, alone, and what it lent is not used any more (invariant 1).
            unsafe { *room.local.get() = T::default() };
        }
        room.inside.store(false, Release);
        guarded.mutex().unlock();
    }
}

/// What a guard reaches.
enum Memory<'a, T> {
    /// A room that this guard has entered.
    Room(&'a Room<T>),
    /// Instead of one that somebody left half-changed.
    Fresh(Box<T>),
}

/// Holds a [`Guarded`] mutex for this thread until it is dropped.
#[must_use = "the mutex is given back as soon as the guard is dropped"]
pub struct Guard<'a, T: Default> {
    guarded: &'a Guarded<T>,
    memory: Memory<'a, T>,
    /// The owner is a thread.
    thread: PhantomData<*const ()>,
}

impl<T: Default> Guard<'_, T> {
    /// What this process remembers.
    #[inline(always)]
    pub fn local(&mut self) -> &mut T {
        match &mut self.memory {
            // SAFETY: this guard changed `inside` from false to true, and `self` is borrowed alone (invariant 1).
            Memory::Room(room) => unsafe { &mut *room.local.get() },
            Memory::Fresh(fresh) => fresh,
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
        if let Memory::Room(room) = self.memory {
            if std::thread::panicking() {
                *self.local() = T::default();
            }
            room.inside.store(false, Release);
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
            scope.spawn(|| {
                guarded.lock(Deadline::NEVER).unwrap().1.local().push(2);
                assert_eq!(guarded.lock(Deadline::NEVER).unwrap().1.local(), &[2]);
            });
        });
        assert_eq!(guarded.lock(Deadline::NEVER).unwrap().1.local(), &[1]);
    }

    #[test]
    fn the_quick_way_is_for_those_with_a_room_to_themselves() {
        let guarded = guarded();
        let add = |by| {
            let all = |local: &mut Vec<u8>| {
                local.push(by);
                local.len()
            };
            guarded.try_with(|| panic!("nobody has died"), all)
        };
        assert_eq!(add(1), None, "no room yet");
        drop(guarded.lock(Deadline::NEVER).unwrap());
        assert_eq!((add(2), add(3)), (Some(1), Some(2)));
        let held = guarded.lock(Deadline::NEVER).unwrap();
        assert_eq!(add(4), None, "held, by this very thread");
        drop(held);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(add(5), None, "another's room"));
        });
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            guarded.try_with(|| (), |_| panic!("inside"))
        }));
        assert!(panicked.is_err());
        assert_eq!(add(6), Some(1), "nothing is remembered of a panic");
    }

    #[test]
    fn the_quick_way_repairs_after_a_death() {
        let guarded = guarded();
        guarded.lock(Deadline::NEVER).unwrap().1.local().push(1);
        std::thread::scope(|scope| {
            let forgets = || std::mem::forget(guarded.lock(Deadline::NEVER).unwrap());
            // The scope alone does not wait for its end.
            scope.spawn(forgets).join().unwrap();
        });
        let mut repairs = 0;
        for _ in 0..2 {
            assert_eq!(guarded.try_with(|| repairs += 1, |local| local.len()), Some(1));
        }
        assert_eq!(repairs, 1);
    }

    #[test]
    fn threads_that_ended_leave_their_rooms_to_others() {
        let guarded = guarded();
        let seen: Vec<usize> = (0..ROOMS + 2)
            .map(|_| {
                std::thread::scope(|scope| {
                    let remembered = || {
                        let mut guard = guarded.lock(Deadline::NEVER).unwrap().1;
                        guard.local().push(1);
                        guard.local().len()
                    };
                    scope.spawn(remembered).join().unwrap()
                })
            })
            .collect();
        // The hall is the last two's, and no room has been asked for yet.
        assert_eq!(seen, [1, 1, 1, 1, 1, 2]);
        let owners = || guarded.rooms.each_ref().map(|room| room.thread.load(Relaxed));
        let before = owners();
        // A thread that was joined is about to be forgotten by the system.
        while before.iter().any(|owner| thread_exists(*owner)) {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..=LOOK_EVERY).for_each(|_| drop(guarded.lock(Deadline::NEVER).unwrap()));
                assert_eq!(guarded.rooms[0].thread.load(Relaxed), this_thread());
                assert_eq!(guarded.lock(Deadline::NEVER).unwrap().1.local(), &[1]);
            });
        });
        assert_eq!(before[1..], owners()[1..]);
    }

    #[test]
    fn a_thread_that_lives_keeps_its_room() {
        let guarded = guarded();
        guarded.lock(Deadline::NEVER).unwrap().1.local().push(1);
        std::thread::scope(|scope| {
            for _ in 0..ROOMS {
                scope
                    .spawn(|| (0..3 * LOOK_EVERY).for_each(|_| drop(guarded.lock(Deadline::NEVER).unwrap())));
            }
        });
        assert_eq!(guarded.lock(Deadline::NEVER).unwrap().1.local(), &[1]);
    }

    #[test]
    fn a_mutex_that_lets_its_owner_in_twice_shows_what_is_remembered_once() {
        let guarded = guarded();
        let mut first = guarded.lock(Deadline::NEVER).unwrap().1;
        first.local().push(1);
        // As somebody would who writes over the mutex.
        guarded.mutex().unlock();
        let mut second = guarded.lock(Deadline::NEVER).unwrap().1;
        assert!(second.local().is_empty());
        drop(second);
        assert_eq!(first.local(), &[1]);
        // It was given back already.
        std::mem::forget(first);
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
        // As if this thread had got its number, or taken its room.
        guarded.rooms[0].thread.store(this_thread(), Relaxed);
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
