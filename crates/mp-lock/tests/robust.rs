//! The mutex under everything, alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_core::Deadline;
use mp_lock::raw::{Acquired, RawLockError, RobustMutex};
use mp_shm::{Format, HEADER, Segment};
use std::time::{Duration, Instant};

fn segment() -> Segment {
    let segment = Segment::create(Format::plain(*b"TEST", 1), RobustMutex::SIZE).unwrap();
    RobustMutex::init(segment.map(), HEADER).unwrap();
    segment
}

#[test]
fn smoke() {
    mp_test::guarded(|| {
        let segment = segment();
        let mutex = RobustMutex::at(segment.map(), HEADER);
        assert_eq!(mutex.owner(), None);
        assert_eq!(mutex.lock(Deadline::NEVER), Ok(Acquired::Clean));
        assert!(mutex.owner().is_some());
        assert_eq!(mutex.lock(Deadline::NEVER), Err(RawLockError::AlreadyHeld));
        assert_eq!(mutex.try_lock(), Err(RawLockError::AlreadyHeld));
        assert!(mutex.unlock());
        assert!(!mutex.unlock(), "only the owner unlocks");
        assert_eq!(mutex.try_lock(), Ok(Acquired::Clean));
        assert!(mutex.unlock());
    });
}

#[test]
fn another_thread_times_out_and_cannot_unlock() {
    mp_test::guarded(|| {
        let segment = segment();
        let mutex = RobustMutex::at(segment.map(), HEADER);
        mutex.lock(Deadline::NEVER).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mutex = RobustMutex::at(segment.map(), HEADER);
                assert_eq!(mutex.try_lock(), Err(RawLockError::TimedOut));
                let start = Instant::now();
                let wait = Duration::from_millis(999);
                assert_eq!(mutex.lock(Deadline::after(wait)), Err(RawLockError::TimedOut));
                assert!(start.elapsed() >= wait);
                assert_eq!(mutex.lock(Deadline::after(Duration::ZERO)), Err(RawLockError::TimedOut));
                assert!(!mutex.unlock());
            });
        });
        assert!(mutex.unlock());
    });
}

#[test]
fn a_thread_that_ends_owning_it_is_news_until_marked_consistent() {
    mp_test::guarded(|| {
        let segment = segment();
        let own_and_end = |acquired| {
            std::thread::scope(|scope| {
                let owner = scope.spawn(|| {
                    let mutex = RobustMutex::at(segment.map(), HEADER);
                    assert_eq!(mutex.lock(Deadline::NEVER), Ok(acquired));
                });
                owner.join().unwrap();
            });
        };
        own_and_end(Acquired::Clean);
        own_and_end(Acquired::OwnerDied);
        let mutex = RobustMutex::at(segment.map(), HEADER);
        assert_eq!(mutex.lock(Deadline::NEVER), Ok(Acquired::OwnerDied));
        mutex.mark_consistent();
        assert!(mutex.unlock());
        assert_eq!(mutex.lock(Deadline::NEVER), Ok(Acquired::Clean));
        assert!(mutex.unlock());
    });
}

#[test]
fn a_repairer_that_gives_up_makes_it_unusable_and_says_so() {
    mp_test::guarded(|| {
        let segment = segment();
        let mutex = RobustMutex::at(segment.map(), HEADER);
        std::thread::scope(|scope| {
            scope.spawn(|| RobustMutex::at(segment.map(), HEADER).lock(Deadline::NEVER).unwrap());
        });
        assert_eq!(mutex.lock(Deadline::NEVER), Ok(Acquired::OwnerDied));
        assert!(mutex.unlock());
        // Each time, whichever thread asks, also one that holds another mutex.
        let other_segment = crate::segment();
        let other = RobustMutex::at(other_segment.map(), HEADER);
        for holding in [false, true, false, true] {
            if holding {
                other.lock(Deadline::NEVER).unwrap();
            }
            assert_eq!(mutex.lock(Deadline::NEVER), Err(RawLockError::NotRecoverable));
            assert_eq!(mutex.try_lock(), Err(RawLockError::NotRecoverable));
            assert_eq!(other.unlock(), holding);
            assert_eq!(mutex.owner(), None);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mutex = RobustMutex::at(segment.map(), HEADER);
                    assert_eq!(mutex.lock(Deadline::NEVER), Err(RawLockError::NotRecoverable));
                });
            });
        }
    });
}

/// Whoever sleeps while it is lost is told so, one after the other.
#[test]
fn whoever_waits_for_a_mutex_that_is_given_up_is_told_so() {
    mp_test::guarded(|| {
        let segment = segment();
        let mutex = RobustMutex::at(segment.map(), HEADER);
        std::thread::scope(|scope| {
            scope.spawn(|| RobustMutex::at(segment.map(), HEADER).lock(Deadline::NEVER).unwrap());
        });
        assert_eq!(mutex.lock(Deadline::NEVER), Ok(Acquired::OwnerDied));
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let (at, from) = std::sync::mpsc::channel();
                    let segment = &segment;
                    let waiter = scope.spawn(move || {
                        at.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                        RobustMutex::at(segment.map(), HEADER).lock(Deadline::NEVER)
                    });
                    let file = format!("/proc/self/task/{}/syscall", from.recv().unwrap());
                    let futex = format!("{} ", libc::SYS_futex);
                    mp_test::until("the waiter sleeps", || {
                        std::fs::read_to_string(&file).is_ok_and(|call| call.starts_with(&futex))
                    });
                    waiter
                })
                .collect();
            assert!(mutex.unlock());
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Err(RawLockError::NotRecoverable));
            }
        });
    });
}

/// The kind tells the C library what to do with a mutex: one that was written over is refused where it would be asked, and given back all
/// the same by whoever holds it.
#[test]
fn a_mutex_whose_kind_was_written_over_is_an_error_and_is_given_back() {
    const KIND: usize = HEADER + 16;
    if !cfg!(all(target_env = "gnu", target_pointer_width = "64", not(mp_force_fallback))) {
        return;
    }
    mp_test::guarded(|| {
        for damage in [0_u32, 1, 3, 0x20, 0x80, 0x92 | 0x40, 0x100, 0xffff_ffff] {
            let (segment, other_segment) = (segment(), segment());
            let mutex = RobustMutex::at(segment.map(), HEADER);
            let other = RobustMutex::at(other_segment.map(), HEADER);
            mutex.lock(Deadline::NEVER).unwrap();
            segment.map().copy_in(KIND, &damage.to_ne_bytes());
            let wait = Deadline::after(Duration::from_millis(20));
            assert_eq!(mutex.lock(wait), Err(RawLockError::AlreadyHeld));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mutex = RobustMutex::at(segment.map(), HEADER);
                    assert_eq!(mutex.lock(wait), Err(RawLockError::Os(libc::EINVAL)), "{damage:#x}");
                    assert!(!mutex.unlock());
                });
            });
            // With another one beside it, the C library gives it back.
            other.lock(Deadline::NEVER).unwrap();
            assert!(mutex.unlock() && other.unlock());
            assert_eq!((mutex.owner(), mutex.lock(wait)), (None, Ok(Acquired::Clean)));
            segment.map().copy_in(KIND, &damage.to_ne_bytes());
            assert!(mutex.unlock());
        }
    });
}

#[test]
#[should_panic(expected = "no mutex at offset")]
fn memory_without_a_mutex_is_refused() {
    let segment = Segment::create(Format::plain(*b"TEST", 1), RobustMutex::SIZE).unwrap();
    let _ = RobustMutex::at(segment.map(), HEADER);
}

#[test]
fn a_mutex_is_made_once() {
    let segment = segment();
    let error = RobustMutex::init(segment.map(), HEADER).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}
