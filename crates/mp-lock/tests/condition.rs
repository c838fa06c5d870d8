//! `Condition` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{Condition, Lock, LockError, Mutex};
use mp_test::guarded;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that wait, and a count of those that were notified.
fn sleepers(count: usize, check: impl FnOnce(&Condition, &Lock, &AtomicUsize)) {
    let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
    let (asleep, awake) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut guard = lock.acquire().unwrap();
                asleep.fetch_add(1, SeqCst);
                condition.wait(&mut guard).unwrap();
                awake.fetch_add(1, SeqCst);
            });
        }
        mp_test::until("all sleep", || asleep.load(SeqCst) == count);
        // Who counted himself holds the lock until he waits.
        drop(lock.acquire().unwrap());
        check(&condition, &lock, &awake);
    });
    assert_eq!(awake.load(SeqCst), count);
    assert_eq!(format!("{condition:?}"), "Condition { waiting: 0, .. }");
}

#[test]
fn smoke() {
    guarded(|| {
        let (condition, value) = (Condition::new().unwrap(), Mutex::new(0_u32).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut guard = value.acquire().unwrap();
                while guard.get() != 1 {
                    condition.wait(&mut guard).unwrap();
                }
                guard.set(2);
                condition.notify_all();
            });
            let mut guard = value.acquire().unwrap();
            guard.set(1);
            condition.notify_one();
            let done = condition.wait_for(&mut guard, Duration::MAX, |guard| guard.get() == 2);
            assert_eq!(done, Ok(true));
        });
    });
}

#[test]
fn each_notification_wakes_exactly_one() {
    guarded(|| {
        sleepers(4, |condition, _, awake| {
            for woken in 1..=4 {
                condition.notify_one();
                mp_test::until("one more is awake", || awake.load(SeqCst) >= woken);
                assert_eq!(awake.load(SeqCst), woken);
            }
        });
    });
}

#[test]
fn notify_wakes_as_many_as_it_says() {
    guarded(|| {
        sleepers(6, |condition, _, awake| {
            condition.notify(2);
            mp_test::until("two are awake", || awake.load(SeqCst) >= 2);
            assert_eq!(awake.load(SeqCst), 2);
            condition.notify(4);
            condition.notify(3);
        });
    });
}

#[test]
fn notify_all_wakes_all_and_is_harmless_alone() {
    guarded(|| {
        sleepers(6, |condition, _, _| {
            condition.notify_all();
            condition.notify_all();
        });
    });
}

#[test]
fn a_notification_that_nobody_waits_for_is_not_kept() {
    guarded(|| {
        let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
        condition.notify_one();
        let mut guard = lock.acquire().unwrap();
        assert_eq!(condition.wait_timeout(&mut guard, Duration::from_millis(1)), Ok(false));
    });
}

#[test]
fn a_time_out_of_999_ms_lasts_as_long_and_keeps_the_lock() {
    guarded(|| {
        let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
        let mut guard = lock.acquire().unwrap();
        for millis in [0, 1, 100, 999] {
            let (start, wait) = (Instant::now(), Duration::from_millis(millis));
            assert_eq!(condition.wait_timeout(&mut guard, wait), Ok(false));
            assert!(start.elapsed() >= wait && lock.is_locked());
        }
        assert_eq!(condition.wait_deadline(&mut guard, Instant::now()), Ok(false));
        assert_eq!(condition.wait_for(&mut guard, Duration::from_millis(5), |_| false), Ok(false));
        drop(guard);
        assert!(!lock.is_locked());
    });
}

#[test]
fn a_holder_who_ends_meanwhile_is_news_to_the_waiter() {
    guarded(|| {
        let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
        let mut guard = lock.acquire().unwrap();
        let (other, told) = (lock.clone(), condition.clone());
        let holder = thread::spawn(move || {
            std::mem::forget(other.acquire().unwrap());
            told.notify_one();
        });
        assert_eq!(condition.wait(&mut guard), Err(LockError::OwnerDied));
        assert!(guard.is_poisoned() && lock.is_locked(), "the guard holds it all the same");
        guard.mark_recovered();
        drop(guard);
        holder.join().unwrap();
        drop(lock.acquire().unwrap());
    });
}
