//! `Lock` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{AcquireError, AcquireTimeoutError, Lock, LockError, TryAcquireError};
use mp_test::guarded;
use std::error::Error;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that ends with the guard forgotten.
fn die_holding(lock: &Lock) {
    let lock = lock.clone();
    // Joined, not scoped: a scope ends before its threads are quite gone.
    thread::spawn(move || std::mem::forget(lock.acquire_or_recover().unwrap())).join().unwrap();
}

/// Runs `other` in another thread while this one holds `lock`.
fn while_held(lock: &Lock, other: impl FnOnce() + Send) {
    let guard = lock.acquire().unwrap();
    thread::scope(|scope| {
        scope.spawn(other);
    });
    guard.release();
}

#[test]
fn smoke() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        assert!(!lock.is_locked());
        let guard = lock.acquire().unwrap();
        assert!(lock.is_locked() && lock.clone().is_locked());
        guard.release();
        assert!(!lock.is_locked());
        drop(lock.try_acquire().unwrap());
        drop(lock.acquire_timeout(Duration::ZERO).unwrap());
        drop(lock.acquire_deadline(Instant::now()).unwrap());
        drop(lock.acquire_timeout(Duration::MAX).unwrap());
        assert!(!lock.is_locked() && !lock.is_poisoned());
    });
}

#[test]
fn acquiring_again_in_the_same_thread_is_an_error() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        assert!(matches!(lock.acquire(), Err(AcquireError::AlreadyHeld)));
        assert!(matches!(lock.try_acquire(), Err(TryAcquireError::AlreadyHeld)));
        let timed = lock.clone().acquire_timeout(Duration::MAX).map(drop);
        assert!(matches!(timed, Err(AcquireTimeoutError::AlreadyHeld)));
        assert_eq!(lock.acquire_or_recover().map(drop), Err(LockError::AlreadyHeld));
        drop(guard);
        drop(lock.acquire().unwrap());
    });
}

#[test]
fn another_thread_is_kept_out() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        while_held(&lock, || {
            assert!(matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
            let zero = lock.acquire_timeout(Duration::ZERO);
            assert!(matches!(zero, Err(AcquireTimeoutError::TimedOut)));
        });
    });
}

#[test]
fn a_time_out_of_999_ms_lasts_as_long() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        while_held(&lock, || {
            for millis in [1, 100, 500, 999] {
                let (start, wait) = (Instant::now(), Duration::from_millis(millis));
                let error = lock.acquire_timeout(wait).unwrap_err();
                assert!(matches!(error, AcquireTimeoutError::TimedOut), "{error}");
                assert!(start.elapsed() >= wait);
            }
        });
    });
}

#[test]
fn many_threads_count_right() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        let total = AtomicU64::new(0);
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let _guard = lock.acquire().unwrap();
                        assert_eq!(inside.fetch_add(1, Relaxed), 0, "two holders at once");
                        total.store(total.load(Relaxed) + 1, Relaxed);
                        inside.fetch_sub(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 20_000);
    });
}

#[test]
fn a_thread_that_ends_holding_is_news_until_recovered() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        die_holding(&lock);
        for _ in 0..3 {
            let error = lock.acquire().unwrap_err();
            assert!(matches!(error, AcquireError::OwnerDied(_)), "{error:?}");
            assert!(lock.is_locked() && lock.is_poisoned(), "the news comes with the lock");
            drop(error);
            assert!(!lock.is_locked());
        }
        assert!(matches!(lock.try_acquire(), Err(TryAcquireError::OwnerDied(_))));
        let guard = lock.acquire_timeout(Duration::ZERO).unwrap_err().into_guard().unwrap();
        assert!(guard.is_poisoned());
        guard.mark_recovered();
        guard.release();
        assert!(!lock.acquire().unwrap().is_poisoned());
    });
}

fn in_a_box(lock: &Lock) -> Result<(), Box<dyn Error>> {
    let _guard = lock.acquire()?;
    Ok(())
}

fn in_a_box_that_travels(lock: &Lock) -> Result<(), Box<dyn Error + Send + Sync>> {
    let _guard = lock.acquire().map_err(AcquireError::into_owned)?;
    Ok(())
}

fn in_our_own(lock: &Lock) -> Result<(), LockError> {
    let _guard = lock.acquire()?;
    let _none = lock.try_acquire().map(drop);
    Ok(())
}

/// As `mp_process::RemoteError` does: any error, whatever it borrows, becomes its text.
#[derive(Debug, PartialEq)]
struct Text(String);

impl<E: Error> From<E> for Text {
    fn from(error: E) -> Text {
        Text(error.to_string())
    }
}

fn in_a_text(lock: &Lock) -> Result<(), Text> {
    let _guard = lock.acquire()?;
    Ok(())
}

#[test]
fn the_question_mark_takes_the_news_anywhere_and_frees_the_lock() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        in_a_box(&lock).unwrap();
        in_a_box_that_travels(&lock).unwrap();
        in_our_own(&lock).unwrap();
        in_a_text(&lock).unwrap();
        die_holding(&lock);
        assert!(in_a_box_that_travels(&lock).unwrap_err().downcast_ref() == Some(&LockError::OwnerDied));
        assert_eq!(in_our_own(&lock), Err(LockError::OwnerDied));
        assert!(in_a_text(&lock).unwrap_err().0.contains("died"));
        let boxed = in_a_box(&lock).unwrap_err();
        assert!(boxed.to_string().contains("mark_recovered"), "{boxed}");
        assert!(lock.is_locked(), "this error still carries the guard");
        drop(boxed);
        assert!(!lock.is_locked());
    });
}

#[test]
fn debug_names_the_holder() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        assert_eq!(format!("{lock:?}"), "Lock { holder: None, poisoned: false, .. }");
        let guard = lock.acquire().unwrap();
        assert!(format!("{lock:?}").contains("of this process"), "{lock:?}");
        assert!(format!("{guard:?}").starts_with("LockGuard"));
    });
}

/// In a process of its own: the descriptor and the mapping of a forgotten lock stay until its end.
#[test]
fn a_forgotten_guard_and_a_dropped_lock_corrupt_nothing() {
    if mp_test::role().is_some() {
        // All mapped before the forgotten one goes, so that none takes its address.
        let (lock, one, two) = (Lock::new().unwrap(), Lock::new().unwrap(), Lock::new().unwrap());
        std::mem::forget(lock.acquire().unwrap());
        drop(lock);
        // That mutex is in this thread's robust list still: locking and unlocking others writes to its neighbours there.
        for _ in 0..100 {
            let first = one.acquire().unwrap();
            let second = two.acquire().unwrap();
            drop(first);
            drop(second);
        }
        mp_test::say("whole");
        return;
    }
    guarded(|| {
        let test = "a_forgotten_guard_and_a_dropped_lock_corrupt_nothing";
        let mut process = mp_test::Role::start(mp_test::command(test, "forgetful"));
        process.expect("whole");
        assert!(process.wait().success());
    });
}

#[test]
fn a_lock_whose_forgetful_holder_has_ended_leaves_nothing() {
    guarded(|| {
        let lock = Lock::new().unwrap();
        thread::scope(|scope| {
            let holder = scope.spawn(|| std::mem::forget(lock.acquire().unwrap()));
            holder.join().unwrap();
        });
        mp_test::until("the holder's end is known", || !lock.is_locked());
    });
}
