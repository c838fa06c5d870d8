//! `Mutex` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{AcquireError, AcquireTimeoutError, Mutex, TryAcquireError};
use mp_test::guarded;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let mutex = Mutex::new([1_u16, 2, 3]).unwrap();
        let mut guard = mutex.acquire().unwrap();
        assert_eq!(guard.get(), [1, 2, 3]);
        guard.set([4, 5, 6]);
        assert_eq!(guard.with(|value| std::mem::replace(&mut value[0], 7)), 4);
        assert_eq!(format!("{guard:?}"), "MutexGuard([7, 5, 6])");
        assert!(mutex.is_locked());
        guard.release();
        assert_eq!(mutex.try_acquire().unwrap().get(), [7, 5, 6]);
        assert_eq!(mutex.clone().acquire_timeout(Duration::MAX).unwrap().get(), [7, 5, 6]);
        assert_eq!(mutex.acquire_deadline(Instant::now()).unwrap().get(), [7, 5, 6]);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn it_excludes_threads_and_itself() {
    guarded(|| {
        let mutex = Mutex::new(0_u64).unwrap();
        let guard = mutex.acquire().unwrap();
        assert!(matches!(mutex.acquire(), Err(AcquireError::AlreadyHeld)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(mutex.try_acquire(), Err(TryAcquireError::Held)));
                let (start, wait) = (Instant::now(), Duration::from_millis(999));
                assert!(matches!(mutex.acquire_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
                assert!(start.elapsed() >= wait);
            });
        });
        drop(guard);
    });
}

#[test]
fn many_threads_count_right() {
    guarded(|| {
        let mutex = Mutex::new(0_u64).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        mutex.acquire().unwrap().with(|value| *value += 1);
                    }
                });
            }
        });
        assert_eq!(mutex.acquire().unwrap().get(), 20_000);
    });
}

#[test]
fn a_panic_under_it_gives_it_back() {
    guarded(|| {
        let mutex = Mutex::new(1_u8).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            mutex.acquire().unwrap().with(|_| std::panic::resume_unwind(Box::new("no")));
        }));
        assert!(outcome.is_err() && !mutex.is_locked());
    });
}
