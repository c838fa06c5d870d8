//! `RLock` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{AcquireError, AcquireTimeoutError, RLock, TryAcquireError};
use mp_test::guarded;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let lock = RLock::new().unwrap();
        let one = lock.acquire().unwrap();
        let two = lock.try_acquire().unwrap();
        let three = lock.acquire_timeout(Duration::ZERO).unwrap();
        assert_eq!((one.depth(), lock.is_locked()), (3, true));
        two.release();
        drop(one);
        assert_eq!((three.depth(), lock.is_locked()), (1, true));
        drop(three);
        assert!(!lock.is_locked());
        drop(lock.acquire_deadline(Instant::now()).unwrap());
        assert_eq!(format!("{lock:?}"), "RLock { holder: None, depth: 0, poisoned: false, .. }");
    });
}

#[test]
fn another_thread_is_kept_out_until_the_last_guard_goes() {
    guarded(|| {
        let lock = RLock::new().unwrap();
        let outer = lock.acquire().unwrap();
        drop(lock.acquire().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
                let (start, wait) = (Instant::now(), Duration::from_millis(999));
                assert!(matches!(lock.acquire_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
                assert!(start.elapsed() >= wait);
            });
        });
        drop(outer);
        std::thread::scope(|scope| {
            scope.spawn(|| drop(lock.acquire().unwrap()));
        });
    });
}

#[test]
fn a_thread_that_ends_holding_it_thrice_is_news_once_held() {
    guarded(|| {
        let lock = RLock::new().unwrap();
        let other = lock.clone();
        std::thread::spawn(move || {
            for _ in 0..3 {
                std::mem::forget(other.acquire().unwrap());
            }
        })
        .join()
        .unwrap();
        let guard = lock.acquire().unwrap_err().into_guard().unwrap();
        assert_eq!(guard.depth(), 1);
        let again = lock.acquire().unwrap_err();
        assert!(matches!(again, AcquireError::OwnerDied(_)), "still news to the holder himself");
        drop(again);
        guard.mark_recovered();
        drop(lock.acquire().unwrap());
        guard.release();
        assert!(!lock.is_locked() && !lock.is_poisoned());
        drop(lock.acquire_or_recover().unwrap());
    });
}
