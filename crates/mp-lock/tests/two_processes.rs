//! Every type, used by two processes at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::given;
use mp_lock::{
    AcquireTimeoutError, Barrier, BoundedSemaphore, Condition, Event, Lock, Mutex, Once, RLock, Semaphore,
    TryAcquireError, take,
};
use mp_test::{Role, guarded, hear, role, say};
use serde::Serialize;
use std::time::Duration;

/// Starts `test` in a second process, with `value` for it to take.
fn second<T: Serialize + 'static>(test: &str, value: &T) -> Role {
    help::start(test, "second", value)
}

#[test]
fn a_lock_excludes_across_processes() {
    if role().is_some() {
        let lock: Lock = take("value").unwrap();
        assert!(!lock.is_locked());
        let guard = lock.acquire().unwrap();
        say("holding");
        assert_eq!(hear().as_deref(), Some("release"));
        guard.release();
        say("released");
        assert_eq!(hear().as_deref(), Some("go on"));
        return;
    }
    guarded(|| {
        let lock = Lock::new().unwrap();
        let mut other = second("a_lock_excludes_across_processes", &lock);
        other.expect("holding");
        assert!(lock.is_locked());
        let holder = format!("of process {}", other.pid());
        assert!(format!("{lock:?}").contains(&holder), "{lock:?}");
        assert!(matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
        let timed = lock.acquire_timeout(Duration::from_millis(5));
        assert!(matches!(timed, Err(AcquireTimeoutError::TimedOut)));
        other.tell("release");
        drop(lock.acquire().unwrap());
        other.expect("released");
        other.tell("go on");
        assert!(other.wait().success());
    });
}

#[test]
fn two_processes_fighting_lose_no_turn() {
    const TURNS: u64 = 20_000;
    // A counter in the pages of a file that both map; torn turns would lose counts.
    fn turns(lock: &Lock, file: &std::fs::File) {
        use std::os::unix::fs::FileExt;
        for _ in 0..TURNS {
            let _guard = lock.acquire().unwrap();
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let next = u64::from_le_bytes(bytes) + 1;
            file.write_all_at(&next.to_le_bytes(), 0).unwrap();
        }
    }
    if role().is_some() {
        let (lock, file): (Lock, mp_lock::Passed<std::os::fd::OwnedFd>) = take("value").unwrap();
        turns(&lock, &file.into_inner().into());
        return;
    }
    guarded(|| {
        use std::os::unix::fs::FileExt;
        let lock = Lock::new().unwrap();
        let path = std::env::temp_dir().join(format!("mp-lock-turns-{}", std::process::id()));
        let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all_at(&[0; 8], 0).unwrap();
        let passed = mp_lock::Passed(std::os::fd::OwnedFd::from(file.try_clone().unwrap()));
        let mut other = second("two_processes_fighting_lose_no_turn", &(lock.clone(), passed));
        turns(&lock, &file);
        assert!(other.wait().success());
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), 2 * TURNS);
    });
}

#[test]
fn another_kind_of_handle_is_refused() {
    if role().is_some() {
        let error = take::<Lock>("value").unwrap_err();
        assert!(error.to_string().contains("Lock"), "{error}");
        return;
    }
    guarded(|| {
        let format = mp_shm::Format::plain(*b"TEST", 1);
        let segment = mp_shm::Segment::create(format, 64).unwrap();
        assert!(second("another_kind_of_handle_is_refused", &segment).wait().success());
    });
}

#[test]
fn every_type_is_the_same_thing_in_both() {
    type All = (Event, Semaphore, BoundedSemaphore, Barrier, RLock, Mutex<[i32; 3]>, Condition, Once);
    fn all() -> std::io::Result<All> {
        let waits = (Event::new()?, Semaphore::new(3)?, BoundedSemaphore::new(2)?, Barrier::new(2)?);
        Ok((
            waits.0,
            waits.1,
            waits.2,
            waits.3,
            RLock::new()?,
            Mutex::new([1, 2, 3])?,
            Condition::new()?,
            Once::new()?,
        ))
    }
    if role().is_some() {
        let (event, semaphore, bounded, barrier, rlock, mutex, condition, once): All = given();
        semaphore.acquire().forget();
        bounded.acquire().forget();
        once.call_once(|| {}).unwrap();
        let nested = (rlock.acquire().unwrap(), rlock.acquire().unwrap());
        mutex.acquire().unwrap().set([4, 5, 6]);
        event.set();
        barrier.wait().unwrap();
        assert_eq!(hear().as_deref(), Some("release"));
        drop(nested);
        let mut guard = mutex.acquire().unwrap();
        say("waiting");
        while guard.get() != [7, 8, 9] {
            condition.wait(&mut guard).unwrap();
        }
        return;
    }
    guarded(|| {
        let everything = all().unwrap();
        let mut other = second("every_type_is_the_same_thing_in_both", &everything);
        let (event, semaphore, bounded, barrier, rlock, mutex, condition, once) = everything;
        event.wait();
        barrier.wait().unwrap();
        assert_eq!((semaphore.available_permits(), bounded.available_permits()), (2, 1));
        assert!(once.is_completed());
        assert!(matches!(rlock.try_acquire(), Err(TryAcquireError::Held)));
        assert_eq!(mutex.acquire().unwrap().get(), [4, 5, 6]);
        other.tell("release");
        drop(rlock.acquire().unwrap());
        other.expect("waiting");
        mutex.acquire().unwrap().set([7, 8, 9]);
        condition.notify_one();
        assert!(other.wait().success());
    });
}
