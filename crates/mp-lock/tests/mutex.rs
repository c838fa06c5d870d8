//! `Mutex` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{AcquireError, AcquireTimeoutError, Mutex, TryAcquireError};
use mp_test::guarded;
use std::thread;
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

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Account {
    number: u32,
    cents: i32,
    history: [i64; 4],
}

#[test]
fn a_struct_is_plain_by_derive() {
    guarded(|| {
        let account = Mutex::new(Account { number: 7, cents: 500, history: [0; 4] }).unwrap();
        let mut guard = account.acquire().unwrap();
        guard.with(|account| {
            account.history[0] = i64::from(account.cents);
            account.cents -= 200;
        });
        assert_eq!(guard.get(), Account { number: 7, cents: 300, history: [500, 0, 0, 0] });
        assert!(format!("{guard:?}").contains("cents: 300"));
    });
}

#[test]
fn a_slice_is_reached_value_by_value_and_as_a_whole() {
    guarded(|| {
        let table = Mutex::from_slice(&[3_u16, 1, 2]).unwrap();
        assert_eq!((table.len(), table.is_empty()), (3, false));
        let mut guard = table.acquire().unwrap();
        guard.with(|values| values.sort_unstable());
        assert_eq!((guard.to_vec(), guard.get(2), guard.get(3)), (vec![1, 2, 3], Some(3), None));
        guard.set(0, 9);
        assert_eq!(format!("{guard:?}"), "MutexGuard([9, 2, 3])");
        drop(guard);
        let zeroed = Mutex::<[f64]>::zeroed(100_000).unwrap();
        assert!(zeroed.acquire().unwrap().with(|values| values.iter().all(|value| *value == 0.0)));
        let none = Mutex::<[u8]>::from_slice(&[]).unwrap();
        assert!(none.is_empty() && none.acquire().unwrap().is_empty());
    });
}

#[test]
#[should_panic(expected = "index 2 of 2 values")]
fn a_value_beyond_the_end_panics() {
    Mutex::zeroed(2).unwrap().acquire().unwrap().set(2, 1_u8);
}

#[test]
fn a_thread_that_ends_holding_one_of_any_kind_is_news_or_done_again() {
    guarded(|| {
        let (table, rwlock, once) = (
            Mutex::from_slice(&[1_u8]).unwrap(),
            mp_lock::RwLock::new(1_u8).unwrap(),
            mp_lock::Once::new().unwrap(),
        );
        thread::scope(|scope| {
            let ends = scope.spawn(|| {
                std::mem::forget(table.acquire().unwrap());
                std::mem::forget(rwlock.write().unwrap());
            });
            ends.join().unwrap();
        });
        let repaired = table.acquire_or_recover(|values| values[0] = 5).unwrap();
        assert_eq!(repaired.get(0), Some(5));
        drop(rwlock.write_or_recover(|value| *value = 5).unwrap());
        assert_eq!(rwlock.read().unwrap().get(), 5);
        once.call_once(|| {}).unwrap();
    });
}
