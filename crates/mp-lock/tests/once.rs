//! `Once` within one process.

#![expect(unsafe_code, reason = "a thread that is gone without unwinding")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{LockError, Once};
use mp_test::guarded;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

#[test]
fn smoke() {
    guarded(|| {
        let (once, runs) = (Once::new().unwrap(), AtomicU32::new(0));
        assert!(!once.is_completed());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let run = || {
                        runs.fetch_add(1, SeqCst);
                    };
                    once.call_once(run).unwrap();
                    assert_eq!(runs.load(SeqCst), 1, "when it returns, it is done");
                });
            }
        });
        assert!(once.clone().is_completed());
        assert_eq!(format!("{once:?}"), "Once { completed: true, runner: None, .. }");
    });
}

#[test]
fn a_runner_that_panics_has_not_done_it() {
    guarded(|| {
        let once = Once::new().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            once.call_once(|| std::panic::resume_unwind(Box::new("no")))
        }));
        assert!(outcome.is_err() && !once.is_completed());
        once.call_once(|| {}).unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn calling_it_from_inside_is_an_error() {
    guarded(|| {
        let once = Once::new().unwrap();
        once.call_once(|| assert_eq!(once.call_once(|| {}), Err(LockError::AlreadyHeld))).unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_runner_that_is_a_thread_and_is_gone_in_the_middle_has_not_done_it() {
    guarded(|| {
        let once = Once::new().unwrap();
        let (begun, news) = std::sync::mpsc::channel();
        // By address: what the thread owned would stay for ever.
        let place = (&raw const once).expose_provenance();
        let thread = std::thread::spawn(move || {
            // SAFETY: the test waits for this thread to be gone before `once` is.
            let runner = unsafe { &*std::ptr::with_exposed_provenance::<Once>(place) };
            let _ = runner.call_once(|| {
                begun.send(()).unwrap();
                // SAFETY: ends this thread alone, at once, as a crash would that others survive: nothing is unwound.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
            });
        });
        news.recv().unwrap();
        // It has no result that could be joined.
        drop(thread);
        let mut runs = 0;
        once.call_once(|| runs += 1).unwrap();
        assert_eq!(runs, 1, "the next caller runs it");
        assert!(once.is_completed());
    });
}
