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
        assert_eq!(mutex.lock(Deadline::NEVER), Err(RawLockError::NotRecoverable));
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
