//! `Semaphore` and `BoundedSemaphore` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{BoundedSemaphore, LockError, MAX_PERMITS, Semaphore};
use mp_test::guarded;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let semaphore = Semaphore::new(2).unwrap();
        assert_eq!(semaphore.available_permits(), 2);
        let (one, two) = (semaphore.acquire(), semaphore.try_acquire().unwrap());
        assert_eq!(semaphore.available_permits(), 0);
        assert!(semaphore.try_acquire().is_none());
        assert_eq!(semaphore.acquire_timeout(Duration::ZERO).map(drop), Err(LockError::TimedOut));
        assert_eq!(semaphore.acquire_deadline(Instant::now()).map(drop), Err(LockError::TimedOut));
        one.release();
        two.forget();
        assert_eq!(semaphore.available_permits(), 1);
        semaphore.release(3).unwrap();
        assert_eq!(format!("{semaphore:?}"), "Semaphore { available: 4, holders: [], .. }");
        drop(semaphore.acquire_timeout(Duration::MAX).unwrap());
    });
}

#[test]
fn a_bounded_one_is_never_released_beyond_its_bound() {
    guarded(|| {
        let semaphore = BoundedSemaphore::new(2).unwrap();
        assert_eq!(semaphore.release(1).unwrap_err().released(), 0);
        semaphore.acquire().forget();
        semaphore.acquire().forget();
        semaphore.release(1).unwrap();
        assert_eq!(semaphore.release(2).unwrap_err().released(), 1);
        assert_eq!(semaphore.available_permits(), 2);
        let _held = semaphore.acquire();
        semaphore.release(1).unwrap_err();
    });
}

#[test]
fn there_is_a_stated_end_to_permits() {
    guarded(|| {
        assert_eq!(Semaphore::new(MAX_PERMITS + 1).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        let full = Semaphore::new(MAX_PERMITS).unwrap();
        full.release(1).unwrap_err();
        let none = Semaphore::new(0).unwrap();
        assert!(none.try_acquire().is_none());
        none.release(1).unwrap();
        drop(none.acquire());
    });
}

#[test]
fn no_more_than_its_permits_are_inside_at_once() {
    guarded(|| {
        let semaphore = Semaphore::new(3).unwrap();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let permit = semaphore.acquire();
                        assert!(inside.fetch_add(1, Relaxed) < 3);
                        inside.fetch_sub(1, Relaxed);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(semaphore.available_permits(), 3);
    });
}

/// With one permit handed round and round there always is either a free one or a holder about to give it back; a search that
/// missed it for ever would hang.
#[test]
fn a_permit_may_go_to_another_thread_and_be_given_back_there() {
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        for _ in 0..100 {
            let permit = semaphore.acquire();
            thread::scope(|scope| {
                let giver = scope.spawn(move || drop(permit));
                drop(semaphore.acquire());
                giver.join().unwrap();
            });
        }
    });
}

#[test]
fn a_forgotten_permit_is_not_given_back_by_its_drop() {
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        let first = semaphore.acquire();
        first.forget();
        semaphore.release(1).unwrap();
        let _second = semaphore.acquire();
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn a_time_out_of_999_ms_lasts_as_long() {
    guarded(|| {
        let semaphore = Semaphore::new(0).unwrap();
        for millis in [1, 100, 999] {
            let (start, wait) = (Instant::now(), Duration::from_millis(millis));
            assert!(semaphore.acquire_timeout(wait).is_err());
            assert!(start.elapsed() >= wait);
        }
    });
}
