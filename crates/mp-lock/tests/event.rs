//! `Event` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::Event;
use mp_test::guarded;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let event = Event::new().unwrap();
        assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
        event.set();
        event.set();
        assert!(event.is_set() && event.clone().wait_timeout(Duration::ZERO));
        assert!(event.wait_deadline(Instant::now()) && event.wait_timeout(Duration::MAX));
        event.wait();
        event.clear();
        assert!(!event.is_set());
        assert_eq!(format!("{event:?}"), "Event { set: false, .. }");
    });
}

#[test]
fn all_who_wait_are_let_go() {
    guarded(|| {
        let event = Event::new().unwrap();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| event.wait());
            }
            event.set();
        });
    });
}

#[test]
fn a_set_that_is_cleared_at_once_is_not_missed() {
    guarded(|| {
        for _ in 0..50 {
            let event = Event::new().unwrap();
            let started = std::sync::atomic::AtomicBool::new(false);
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    started.store(true, std::sync::atomic::Ordering::SeqCst);
                    event.wait();
                });
                mp_test::until("the waiter has started", || {
                    started.load(std::sync::atomic::Ordering::SeqCst)
                });
                // Set and clear in one breath, as long as it takes the waiter to begin waiting.
                while !waiter.is_finished() {
                    event.set();
                    event.clear();
                }
            });
        }
    });
}

#[test]
fn a_time_out_of_999_ms_lasts_as_long() {
    guarded(|| {
        let event = Event::new().unwrap();
        for millis in [1, 100, 900, 999] {
            let (start, wait) = (Instant::now(), Duration::from_millis(millis));
            assert!(!event.wait_timeout(wait));
            assert!(start.elapsed() >= wait);
        }
    });
}
