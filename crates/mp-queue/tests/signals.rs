//! A hail of signals that interrupt whatever the kernel does: no operation ends early for it, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{all, tube};
use mp_queue::{JoinableQueue, Passed, Queue, wait};
use mp_test::{Hail, guarded};
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const LONG: Duration = Duration::from_millis(60);

/// Runs `operation` on this thread under a hail that hits at least once, and which does not make it any shorter than `LONG`.
fn under_hail<R>(operation: impl FnOnce() -> R) -> R {
    let (start, hail) = (Instant::now(), Hail::here());
    let result = operation();
    assert!(start.elapsed() >= LONG, "it ended early");
    mp_test::until("a signal has come", || hail.hits() > 0);
    result
}

#[test]
fn no_time_out_ends_early() {
    guarded(|| {
        let queue = Queue::<u8>::bounded(1).unwrap();
        assert!(under_hail(|| queue.get_timeout(LONG)).unwrap_err().is_timeout());
        assert!(under_hail(|| queue.get_many_timeout(3, LONG)).unwrap_err().is_timeout());
        assert_eq!(under_hail(|| wait(&[&queue], Some(LONG))).unwrap(), []);
        queue.put(1).unwrap();
        assert!(under_hail(|| queue.put_timeout(2, LONG)).unwrap_err().is_timeout());
        let error = under_hail(|| queue.put_many_timeout([3, 4], LONG)).unwrap_err();
        assert!(error.error.is_timeout());
        assert_eq!((error.put, error.rest), (0, vec![4]));
        let (sender, receiver) = queue.split();
        assert_eq!(under_hail(|| wait(&[&sender], Some(LONG))).unwrap(), []);
        assert_eq!(receiver.get().unwrap(), 1);
        let tasks = JoinableQueue::<u8>::new().unwrap();
        assert!(under_hail(|| tasks.claim_timeout(LONG)).unwrap_err().is_timeout());
        tasks.put(1).unwrap();
        assert!(!under_hail(|| tasks.join_timeout(LONG)).unwrap(), "it is inside");
        let (_, claim) = tasks.claim().unwrap();
        assert!(!under_hail(|| tasks.join_timeout(LONG)).unwrap(), "it is claimed");
        claim.done().unwrap();
        assert!(tasks.join_timeout(Duration::ZERO).unwrap());
    });
}

/// Threads that fight for the locks, sleep for room and for values, and are interrupted in all of it.
#[test]
fn producers_and_consumers_are_hailed_on_and_every_value_comes_once() {
    const EACH: u32 = 3_000;
    guarded(|| {
        let (sender, receiver) = Queue::<(u32, Vec<u8>)>::bounded(3).unwrap().split();
        let seen: Vec<AtomicU32> = (0..3 * EACH).map(|_| AtomicU32::new(0)).collect();
        let seen = &seen;
        thread::scope(|scope| {
            for producer in 0..3 {
                let sender = sender.clone();
                scope.spawn(move || {
                    let _hail = Hail::here();
                    for n in 0..EACH {
                        let length = if n % 500 == 0 { MIB } else { n as usize % 300 };
                        sender.put((producer * EACH + n, vec![n.to_le_bytes()[0]; length])).unwrap();
                    }
                });
            }
            drop(sender);
            for _ in 0..2 {
                let receiver = receiver.clone();
                scope.spawn(move || {
                    let hail = Hail::here();
                    for value in receiver.iter() {
                        let (n, bytes) = value.unwrap();
                        assert!(bytes.iter().all(|byte| *byte == (n % EACH).to_le_bytes()[0]));
                        seen[n as usize].fetch_add(1, Relaxed);
                    }
                    assert!(hail.hits() > 0);
                });
            }
        });
        assert!(seen.iter().all(|count| count.load(Relaxed) == 1));
    });
}

#[test]
fn handles_and_claims_come_through_a_hail() {
    guarded(|| {
        let tasks = JoinableQueue::<(u32, Passed<File>)>::new().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _hail = Hail::here();
                for n in 0..200 {
                    let ((number, file), claim) = tasks.claim().unwrap();
                    assert_eq!(number, n);
                    rustix::io::write(&file.0, b"here").unwrap();
                    drop(file);
                    claim.done().unwrap();
                }
            });
            let _hail = Hail::here();
            for n in 0..200 {
                let (reader, file) = tube();
                tasks.put((n, file)).unwrap();
                assert_eq!(all(reader), "here");
                if n % 10 == 0 {
                    tasks.join().unwrap();
                }
            }
            tasks.join().unwrap();
        });
        assert_eq!(tasks.lost(), 0);
        let _hail = Hail::here();
        tasks.close().unwrap();
        assert!(tasks.get().unwrap_err().is_closed());
    });
}
