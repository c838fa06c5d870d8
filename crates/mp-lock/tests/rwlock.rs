//! `RwLock` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{AcquireError, AcquireTimeoutError, MAX_READERS, RwLock, TryAcquireError};
use mp_test::guarded;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let lock = RwLock::new([1_u16, 2]).unwrap();
        let (one, two) = (lock.read().unwrap(), lock.try_read().unwrap());
        assert_eq!((one.get(), two.with(|value| value[1])), ([1, 2], 2));
        one.release();
        drop(two);
        let mut guard = lock.write().unwrap();
        guard.with(|value| value[0] = 7);
        assert_eq!(guard.get(), [7, 2]);
        assert_eq!(
            format!("{lock:?}"),
            format!(
                "RwLock {{ writer: Some(thread {} of this process), readers: [], poisoned: false, .. }}",
                rustix::thread::gettid().as_raw_nonzero()
            )
        );
        guard.set([8, 9]);
        guard.release();
        assert_eq!(lock.read_timeout(Duration::ZERO).unwrap().get(), [8, 9]);
        assert_eq!(lock.read_deadline(Instant::now()).unwrap().get(), [8, 9]);
        drop((lock.try_write().unwrap(), ()));
        drop(lock.write_timeout(Duration::MAX).unwrap());
        drop(lock.write_deadline(Instant::now()).unwrap());
        let bare: RwLock = RwLock::new(()).unwrap();
        drop(bare.write().unwrap());
        drop(bare.read().unwrap());
    });
}

#[test]
fn readers_share_and_a_writer_excludes() {
    guarded(|| {
        let lock = RwLock::new([0_u64; 8]).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        lock.write().unwrap().with(|value| value.iter_mut().for_each(|word| *word += 1));
                    }
                });
                scope.spawn(|| {
                    for _ in 0..3_000 {
                        let value = lock.read().unwrap().get();
                        assert!(value.iter().all(|word| *word == value[0]), "torn: {value:?}");
                    }
                });
            }
        });
        assert_eq!(lock.read().unwrap().get(), [6_000; 8]);
    });
}

#[test]
fn the_other_kind_is_kept_out_for_the_whole_999_ms() {
    guarded(|| {
        let lock = RwLock::new(0_u8).unwrap();
        let (wait, reader) = (Duration::from_millis(999), lock.read().unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_write(), Err(TryAcquireError::Held)));
                let start = Instant::now();
                assert!(matches!(lock.write_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
                assert!(start.elapsed() >= wait);
                drop(lock.read().unwrap());
            });
        });
        drop(reader);
        let writer = lock.write().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_read(), Err(TryAcquireError::Held)));
                let start = Instant::now();
                assert!(matches!(lock.read_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
                assert!(start.elapsed() >= wait);
            });
        });
        drop(writer);
    });
}

#[test]
fn a_thread_that_would_wait_for_itself_gets_an_error() {
    guarded(|| {
        let lock = RwLock::new(0_u8).unwrap();
        let reader = lock.read().unwrap();
        assert!(matches!(lock.write(), Err(AcquireError::AlreadyHeld)));
        assert!(matches!(lock.try_write(), Err(TryAcquireError::AlreadyHeld)));
        drop(reader);
        let writer = lock.write().unwrap();
        assert!(matches!(lock.read(), Err(AcquireError::AlreadyHeld)));
        assert!(matches!(lock.write(), Err(AcquireError::AlreadyHeld)));
        drop(writer);
    });
}

#[test]
fn a_reader_may_read_again_while_a_writer_waits() {
    guarded(|| {
        let lock = RwLock::new(0_u8).unwrap();
        let outer = lock.read().unwrap();
        let wrote = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = lock.write().unwrap();
                wrote.store(true, SeqCst);
                drop(guard);
            });
            // Once the writer waits, no fresh reader gets in.
            let kept_out = || scope.spawn(|| lock.try_read().is_err()).join().unwrap();
            mp_test::until("a writer waits", kept_out);
            let inner = lock.read().unwrap();
            drop(outer);
            assert!(!wrote.load(SeqCst));
            drop(inner);
        });
        assert!(wrote.load(SeqCst));
    });
}

#[test]
fn there_is_a_stated_end_to_readers() {
    guarded(|| {
        let lock = RwLock::new(0_u8).unwrap();
        let all: Vec<_> = (0..MAX_READERS).map(|_| lock.read().unwrap()).collect();
        assert!(matches!(lock.read(), Err(AcquireError::TooMany)));
        drop(all);
        drop(lock.write().unwrap());
    });
}
