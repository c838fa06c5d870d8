//! Locks at a place in named memory, for programs that share nothing but the name.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, killed_at, start, start_with, stay};
use mp_lock::{
    AcquireError, Barrier, BoundedSemaphore, Condition, Event, Lock, Mutex, Once, RLock, RwLock, Semaphore,
    SharedMemory, Waitable,
};
use mp_test::{guarded, hear, role, say};
use std::io::{self, ErrorKind};
use std::time::Duration;

fn name(test: &str) -> String {
    format!("mp-test-{}-{test}", std::process::id())
}

fn memory(test: &str, size: usize) -> SharedMemory {
    SharedMemory::create(&name(test), size).unwrap()
}

struct All {
    lock: Lock,
    rlock: RLock,
    rwlock: RwLock<u16>,
    bare: RwLock,
    mutex: Mutex<[i32; 3]>,
    slice: Mutex<[u64]>,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    condition: Condition,
    event: Event,
    barrier: Barrier,
    once: Once,
}

/// The places of all, in order.
fn places() -> ([usize; 12], usize) {
    let sizes = [
        Lock::SIZE,
        RLock::SIZE,
        RwLock::<u16>::SIZE,
        RwLock::<()>::SIZE,
        Mutex::<[i32; 3]>::SIZE,
        Mutex::<[u64]>::size(5),
        Semaphore::size(3),
        BoundedSemaphore::size(2),
        Condition::SIZE,
        Event::SIZE,
        Barrier::size(2),
        Once::SIZE,
    ];
    let mut next = 128;
    let places = sizes.map(|size| {
        let place = next;
        next += size.next_multiple_of(64);
        place
    });
    (places, next)
}

impl All {
    fn make(memory: &SharedMemory) -> io::Result<All> {
        let (at, _) = places();
        Ok(All {
            lock: Lock::new_in(memory, at[0])?,
            rlock: RLock::new_in(memory, at[1])?,
            rwlock: RwLock::new_in(memory, at[2], 7)?,
            bare: RwLock::new_in(memory, at[3], ())?,
            mutex: Mutex::new_in(memory, at[4], [1, 2, 3])?,
            slice: Mutex::from_slice_in(memory, at[5], &[1, 2, 3, 4, 5])?,
            semaphore: Semaphore::new_in(memory, at[6], 3)?,
            bounded: BoundedSemaphore::new_in(memory, at[7], 2)?,
            condition: Condition::new_in(memory, at[8])?,
            event: Event::new_in(memory, at[9])?,
            barrier: Barrier::new_in(memory, at[10], 2, Duration::MAX)?,
            once: Once::new_in(memory, at[11])?,
        })
    }

    fn open(memory: &SharedMemory) -> io::Result<All> {
        let (at, _) = places();
        Ok(All {
            lock: Lock::open_in(memory, at[0])?,
            rlock: RLock::open_in(memory, at[1])?,
            rwlock: RwLock::open_in(memory, at[2])?,
            bare: RwLock::open_in(memory, at[3])?,
            mutex: Mutex::<[i32; 3]>::open_in(memory, at[4])?,
            slice: Mutex::<[u64]>::open_in(memory, at[5])?,
            semaphore: Semaphore::open_in(memory, at[6])?,
            bounded: BoundedSemaphore::open_in(memory, at[7])?,
            condition: Condition::open_in(memory, at[8])?,
            event: Event::open_in(memory, at[9])?,
            barrier: Barrier::open_in(memory, at[10])?,
            once: Once::open_in(memory, at[11])?,
        })
    }
}

#[test]
fn every_type_is_the_same_thing_by_name() {
    if role().is_some() {
        let memory = SharedMemory::open(&given::<String>()).unwrap();
        let all = All::open(&memory).unwrap();
        // What is placed keeps its memory mapped.
        drop(memory);
        all.semaphore.acquire().forget();
        all.bounded.acquire().forget();
        all.once.call_once(|| {}).unwrap();
        let held = (all.lock.acquire().unwrap(), all.rlock.acquire().unwrap());
        all.rwlock.write().unwrap().set(9);
        let reading = all.bare.read().unwrap();
        all.mutex.acquire().unwrap().set([4, 5, 6]);
        all.slice.acquire().unwrap().with(|values| values[4] = 55);
        all.event.set();
        all.barrier.wait().unwrap();
        assert_eq!(hear().as_deref(), Some("release"));
        drop((held, reading));
        let mut guard = all.mutex.acquire().unwrap();
        say("waiting");
        while guard.get() != [7, 8, 9] {
            all.condition.wait(&mut guard).unwrap();
        }
        return;
    }
    guarded(|| {
        let test = "every_type_is_the_same_thing_by_name";
        let memory = memory(test, places().1);
        let all = All::make(&memory).unwrap();
        let mut other = start(test, "other", &name(test));
        all.event.wait();
        all.barrier.wait().unwrap();
        assert_eq!((all.semaphore.available_permits(), all.bounded.available_permits()), (2, 1));
        assert!(all.once.is_completed() && all.lock.is_locked() && all.rlock.is_locked());
        assert_eq!(all.rwlock.read().unwrap().get(), 9);
        assert!(all.bare.try_write().is_err() && all.bare.try_read().is_ok());
        assert_eq!(all.mutex.acquire().unwrap().get(), [4, 5, 6]);
        assert_eq!(all.slice.acquire().unwrap().to_vec(), [1, 2, 3, 4, 55]);
        other.tell("release");
        drop((all.lock.acquire().unwrap(), all.rlock.acquire().unwrap(), all.bare.write().unwrap()));
        other.expect("waiting");
        all.mutex.acquire().unwrap().set([7, 8, 9]);
        all.condition.notify_one();
        assert!(other.wait().success());
    });
}

#[test]
fn a_place_is_made_once_and_whoever_opens_it_is_told_what_is_wrong() {
    guarded(|| {
        let memory = memory("once", 8192);
        let kind = |error: io::Error| error.kind();
        assert_eq!(Lock::open_in(&memory, 0).map_err(kind).unwrap_err(), ErrorKind::NotFound);
        let lock = Lock::new_in(&memory, 0).unwrap();
        assert_eq!(Lock::new_in(&memory, 0).map_err(kind).unwrap_err(), ErrorKind::AlreadyExists);
        assert_eq!(RLock::new_in(&memory, 0).map_err(kind).unwrap_err(), ErrorKind::AlreadyExists);
        assert_eq!(RLock::open_in(&memory, 0).map_err(kind).unwrap_err(), ErrorKind::InvalidData);
        let mutex = Mutex::new_in(&memory, 512, 1_u32).unwrap();
        assert_eq!(Mutex::<u64>::open_in(&memory, 512).map_err(kind).unwrap_err(), ErrorKind::InvalidData);
        assert_eq!(Lock::new_in(&memory, 32).map_err(kind).unwrap_err(), ErrorKind::InvalidInput);
        let end = 8192 - 64;
        assert_eq!(Lock::new_in(&memory, end).map_err(kind).unwrap_err(), ErrorKind::InvalidInput);
        assert_eq!(Lock::open_in(&memory, 8192).map_err(kind).unwrap_err(), ErrorKind::InvalidInput);
        assert_eq!(
            Event::new_in(&memory, 1024).unwrap().wait_fd().map_err(kind).unwrap_err(),
            ErrorKind::Unsupported
        );
        drop((lock.acquire().unwrap(), mutex.acquire().unwrap()));
    });
}

#[test]
fn what_is_placed_crosses_as_a_handle_too() {
    if role().is_some() {
        let (lock, slice, event): (Lock, Mutex<[u64]>, Event) = given();
        assert!(lock.is_locked());
        slice.acquire().unwrap().set(1, 8);
        event.set();
        return;
    }
    guarded(|| {
        let memory = memory("crosses", 8192);
        let lock = Lock::new_in(&memory, 0).unwrap();
        let slice = Mutex::from_slice_in(&memory, 1024, &[5, 6, 7_u64]).unwrap();
        let event = Event::new_in(&memory, 4096).unwrap();
        let _guard = lock.acquire().unwrap();
        let mut other = start(
            "what_is_placed_crosses_as_a_handle_too",
            "other",
            &(lock.clone(), slice.clone(), event.clone()),
        );
        event.wait();
        assert_eq!(slice.acquire().unwrap().to_vec(), [5, 8, 7]);
        assert!(other.wait().success());
    });
}

#[test]
fn a_killed_holder_of_a_placed_lock_is_news() {
    if role().is_some() {
        let memory = SharedMemory::open(&given::<String>()).unwrap();
        let lock = Lock::open_in(&memory, 64).unwrap();
        let _guard = lock.acquire().unwrap();
        say("holding");
        stay();
    }
    guarded(|| {
        let test = "a_killed_holder_of_a_placed_lock_is_news";
        let memory = memory(test, 4096);
        let lock = Lock::new_in(&memory, 64).unwrap();
        let mut holder = start(test, "holder", &name(test));
        holder.expect("holding");
        holder.kill();
        assert!(matches!(lock.acquire(), Err(AcquireError::OwnerDied(_))));
        // The news stays with the place, as long as the name.
        let again = Lock::open_in(&memory, 64).unwrap();
        drop(again.acquire_or_recover().unwrap());
        drop(lock.acquire().unwrap());
    });
}

#[test]
fn a_forgotten_guard_in_named_memory_corrupts_nothing() {
    if role().is_some() {
        for _ in 0..50 {
            let memory = memory("forgotten", 4096);
            let lock = Lock::new_in(&memory, 0).unwrap();
            // What stays mapped keeps its name, too, as any segment does that is in use.
            assert!(memory.unlink().unwrap());
            std::mem::forget(lock.acquire().unwrap());
            drop((lock, memory));
            // The list of this thread's locks is used again: it must still point into mapped memory.
            drop(Lock::new().unwrap().acquire().unwrap());
        }
        say("unharmed");
        return;
    }
    guarded(|| {
        let test = "a_forgotten_guard_in_named_memory_corrupts_nothing";
        let mut forgetful = start(test, "forgetful", &0_u8);
        forgetful.expect("unharmed");
        assert!(forgetful.wait().success());
    });
}

/// Kills at `shm.place:1..=3`: until the last step there is nothing, and the next one makes it.
#[test]
fn a_maker_killed_at_any_step_has_made_it_whole_or_not() {
    if role().is_some() {
        let memory: SharedMemory = given();
        drop(Mutex::new_in(&memory, 64, [3_u8; 9]));
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_maker_killed_at_any_step_has_made_it_whole_or_not";
        killed_at(
            test,
            &["shm.place:1..=3"],
            || memory(test, 4096),
            |step, memory| {
                let opened = Mutex::<[u8; 9]>::open_in(&memory, 64);
                if step == "shm.place:3" {
                    assert_eq!(opened.unwrap().acquire().unwrap().get(), [3; 9]);
                } else {
                    assert_eq!(opened.unwrap_err().kind(), ErrorKind::NotFound, "{step}");
                    let made = Mutex::new_in(&memory, 64, [4_u8; 9]).unwrap();
                    assert_eq!(made.acquire().unwrap().get(), [4; 9]);
                }
            },
        );
    });
}

#[test]
fn a_living_maker_is_not_robbed_of_its_place() {
    if role().is_some() {
        let memory: SharedMemory = given();
        let _lock = Lock::new_in(&memory, 64).unwrap();
        stay();
    }
    let test = "a_living_maker_is_not_robbed_of_its_place";
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded(|| {
        let memory = memory(test, 4096);
        let mut maker = start_with(test, "maker", &memory, Some("shm.place:1:stop"));
        let busy =
            || matches!(Lock::new_in(&memory, 64), Err(error) if error.kind() == ErrorKind::ResourceBusy);
        // Until the maker has come that far this process would make it itself: it looks first.
        mp_test::until("the maker has claimed the place", || {
            memory.atomic_u64(64).load(std::sync::atomic::Ordering::Acquire) != 0
        });
        assert!(busy());
        maker.kill();
        drop(Lock::new_in(&memory, 64).unwrap().acquire().unwrap());
    });
}
