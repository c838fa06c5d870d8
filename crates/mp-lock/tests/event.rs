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
        assert_eq!(format!("{event:?}"), "Event { set: false, polled: false, .. }");
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
        for _ in 0..20 {
            let event = Event::new().unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(|| {
                    tell.send(rustix::thread::gettid()).unwrap();
                    event.wait();
                });
                let file = format!("/proc/self/task/{}/syscall", told.recv().unwrap().as_raw_nonzero());
                let futex = format!("{} ", libc::SYS_futex);
                let asleep = || std::fs::read_to_string(&file).is_ok_and(|call| call.starts_with(&futex));
                mp_test::until("it sleeps", asleep);
                // In one breath: by the time the waiter looks, the flag is clear again.
                event.set();
                event.clear();
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
