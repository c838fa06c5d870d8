//! `Barrier` within one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_lock::{Barrier, BarrierError, MAX_PARTIES};
use mp_test::guarded;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const PARTIES: usize = 5;

/// Runs `party` in so many threads and collects what they return.
fn all<R: Send>(parties: usize, party: impl Fn() -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|_| scope.spawn(&party)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn smoke() {
    guarded(|| {
        let barrier = Barrier::new(PARTIES).unwrap();
        let mut indices: Vec<usize> = all(PARTIES, || barrier.wait().unwrap());
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (PARTIES, 0, false));
        assert_eq!(format!("{barrier:?}"), "Barrier { parties: 5, waiting: [], broken: false, .. }");
    });
}

#[test]
fn a_single_party_never_waits() {
    guarded(|| {
        let barrier = Barrier::new(1).unwrap();
        for _ in 0..100 {
            assert_eq!(barrier.wait(), Ok(0));
            assert_eq!(barrier.wait_timeout(Duration::ZERO), Ok(0));
            assert_eq!(barrier.wait_deadline(Instant::now()), Ok(0));
        }
    });
}

#[test]
fn a_thousand_turns_in_step() {
    guarded(|| {
        let barrier = Barrier::new(PARTIES).unwrap();
        let inside = AtomicUsize::new(0);
        all(PARTIES, || {
            for turn in 1..=1_000 {
                inside.fetch_add(1, SeqCst);
                barrier.wait().unwrap();
                // All have come, and nobody is in the next turn but one.
                let now = inside.load(SeqCst);
                assert!((turn * PARTIES..(turn + 1) * PARTIES).contains(&now), "{now} in turn {turn}");
                barrier.wait().unwrap();
            }
        });
    });
}

#[test]
fn the_action_runs_once_a_turn_before_anyone_passes() {
    guarded(|| {
        let barrier = Barrier::new(PARTIES).unwrap();
        let runs = AtomicU32::new(0);
        for turn in 1..=20 {
            all(PARTIES, || {
                let act = || {
                    runs.fetch_add(1, SeqCst);
                };
                barrier.wait_with(act).unwrap();
                assert_eq!(runs.load(SeqCst), turn);
            });
        }
    });
}

#[test]
fn an_action_that_panics_breaks_it() {
    guarded(|| {
        let barrier = Barrier::new(2).unwrap();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| barrier.wait_with(|| std::panic::resume_unwind(Box::new("no")))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(99))).collect()
        });
        assert!(outcomes.contains(&Ok(99)) && outcomes.contains(&Err(BarrierError::Broken)), "{outcomes:?}");
        assert!(barrier.is_broken());
    });
}

#[test]
fn who_runs_out_of_time_breaks_it_for_all() {
    guarded(|| {
        let barrier = Barrier::new(3).unwrap();
        thread::scope(|scope| {
            let patient = scope.spawn(|| barrier.wait());
            mp_test::until("one waits", || barrier.waiting() == 1);
            let (start, wait) = (Instant::now(), Duration::from_millis(999));
            assert_eq!(barrier.wait_timeout(wait), Err(BarrierError::TimedOut));
            assert!(start.elapsed() >= wait);
            assert_eq!(patient.join().unwrap(), Err(BarrierError::Broken));
        });
        assert!(barrier.is_broken());
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    });
}

#[test]
fn an_abort_breaks_it_until_a_reset() {
    guarded(|| {
        let barrier = Barrier::new(2).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            mp_test::until("one waits", || barrier.waiting() == 1);
            barrier.abort();
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
        assert!(barrier.is_broken());
        barrier.reset();
        assert!(!barrier.is_broken());
        assert_eq!(all(2, || barrier.wait().is_ok()), [true, true]);
    });
}

#[test]
fn a_reset_frees_who_waits_and_leaves_it_whole() {
    guarded(|| {
        let barrier = Barrier::new(3).unwrap();
        barrier.reset();
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..2).map(|_| scope.spawn(|| barrier.wait())).collect();
            mp_test::until("two wait", || barrier.waiting() == 2);
            barrier.reset();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
            }
        });
        assert!(!barrier.is_broken());
        assert_eq!(all(3, || barrier.wait().is_ok()), [true; 3]);
    });
}

#[test]
fn the_number_of_parties_has_bounds() {
    guarded(|| {
        for wrong in [0, MAX_PARTIES + 1] {
            assert_eq!(Barrier::new(wrong).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        }
        let barrier = Barrier::new(1).unwrap();
        let party = barrier.join_party().unwrap();
        assert!(barrier.join_party().is_err());
        drop(party);
        drop(barrier.join_party().unwrap());
    });
}
