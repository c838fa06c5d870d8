//! A queue that can be joined: claims, tokens, what comes back and what is counted lost.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use help::{child, memory};
use mp_queue::{JoinableQueue, OnDeath, Passed, Queue, TaskDoneError, take, wait};
use mp_test::{Role, guarded, hear, role, say};
use serde::{Deserialize, Serialize, de};
use std::fs::File;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put("obj".to_owned()).unwrap();
        assert!(!queue.join_timeout(Duration::ZERO).unwrap());
        assert_eq!(queue.get().unwrap(), "obj");
        assert_eq!((queue.len(), queue.unfinished()), (0, 1));
        assert!(!queue.join_timeout(Duration::ZERO).unwrap());
        queue.task_done().unwrap();
        queue.join().unwrap();
        assert_eq!((queue.unfinished(), queue.lost()), (0, 0));
    });
}

#[test]
fn join_waits_for_the_last_task() {
    guarded(|| {
        for _ in 0..20 {
            let (queue, done) = (JoinableQueue::bounded(3).unwrap(), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for value in queue.iter() {
                            value.unwrap();
                            done.fetch_add(1, Relaxed);
                            queue.task_done().unwrap();
                        }
                    });
                }
                (0..10).for_each(|n| queue.put(n).unwrap());
                queue.join().unwrap();
                assert_eq!(done.load(Relaxed), 10);
                queue.close().unwrap();
            });
        }
    });
}

#[test]
fn many_join_at_once() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        (0..100_u32).for_each(|n| queue.put(n).unwrap());
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| queue.join().unwrap());
            }
            for _ in 0..100 {
                let (_, claim) = queue.claim().unwrap();
                claim.done().unwrap();
            }
        });
    });
}

#[test]
fn task_done_more_often_than_get_is_an_error() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        assert_eq!(queue.task_done(), Err(TaskDoneError::NothingClaimed));
        queue.put(1).unwrap();
        assert_eq!(queue.task_done(), Err(TaskDoneError::NothingClaimed));
        queue.get().unwrap();
        queue.task_done().unwrap();
        assert_eq!(queue.task_done(), Err(TaskDoneError::NothingClaimed));
    });
}

#[test]
fn task_done_settles_what_another_handle_in_this_process_got() {
    guarded(|| {
        let queue = JoinableQueue::<u8>::new().unwrap();
        // Another opening of the same memory, as an argument that came twice.
        let carrier = Queue::new().unwrap();
        carrier.put(queue.clone()).unwrap();
        let twin = carrier.get().unwrap();
        queue.put(1).unwrap();
        twin.get().unwrap();
        queue.task_done().unwrap();
        queue.join().unwrap();
        twin.join().unwrap();
    });
}

#[test]
fn what_was_not_done_goes_back_with_the_last_handle_of_its_process() {
    const TEST: &str = "what_was_not_done_goes_back_with_the_last_handle_of_its_process";
    if role().is_some() {
        let queue: JoinableQueue<u8> = take("end").unwrap();
        let twin = queue.clone();
        queue.get().unwrap();
        queue.get().unwrap();
        drop(queue);
        twin.task_done().unwrap();
        drop(twin);
        say("left");
        let _ = hear();
        return;
    }
    guarded(|| {
        let queue = JoinableQueue::<u8>::new().unwrap();
        queue.put_many([1, 2]).unwrap();
        let mut child = Role::start(child(TEST, "consumer", &queue));
        child.expect("left");
        // It lives on, and what it left is here at once.
        assert_eq!(queue.try_get().unwrap(), 2);
        queue.task_done().unwrap();
        queue.join().unwrap();
        assert!(child.wait().success());
    });
}

#[test]
fn a_time_out_of_join_lasts_at_least_so_long() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put(1).unwrap();
        let start = Instant::now();
        assert!(!queue.join_timeout(Duration::from_millis(30)).unwrap());
        queue.get().unwrap();
        assert!(!queue.join_deadline(start + Duration::from_millis(150)).unwrap());
        assert!(start.elapsed() >= Duration::from_millis(150));
    });
}

#[test]
fn a_claim_that_is_dropped_is_handed_out_again_before_all_others() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        (0..4).for_each(|n| queue.put(vec![n; 100]).unwrap());
        let claims: Vec<_> = (0..3).map(|_| queue.claim().unwrap()).collect();
        assert_eq!(claims.iter().map(|(value, _)| value[0]).collect::<Vec<_>>(), [0, 1, 2]);
        let mut claims = claims.into_iter();
        claims.next().unwrap().1.done().unwrap();
        // The younger one first: they come back by age.
        drop(claims.next_back());
        drop(claims);
        assert_eq!((queue.len(), queue.unfinished()), (3, 3));
        for n in 1..4 {
            let (value, claim) = queue.try_claim().unwrap();
            assert_eq!((value, claim.deliveries()), (vec![n; 100], if n < 3 { 2 } else { 1 }));
            claim.done().unwrap();
        }
        assert!(queue.try_claim().unwrap_err().is_empty());
        queue.join().unwrap();
        assert_eq!(queue.lost(), 0);
    });
}

#[test]
fn who_waits_is_told_of_what_comes_back() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put("once".to_owned()).unwrap();
        for _ in 0..20 {
            let (_, claim) = queue.claim().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (value, claim) = queue.claim().unwrap();
                    assert_eq!(value, "once");
                    drop(claim);
                });
                scope.spawn(|| assert_eq!(wait(&[&queue], None).unwrap(), [0]));
                drop(claim);
            });
        }
    });
}

#[test]
fn a_panic_with_a_claim_gives_it_back() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put(5).unwrap();
        let work = std::panic::AssertUnwindSafe(|| {
            let (_value, _claim) = queue.claim().unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        std::panic::catch_unwind(work).unwrap_err();
        let (value, claim) = queue.try_claim().unwrap();
        assert_eq!(value, 5);
        claim.done().unwrap();
    });
}

#[test]
fn the_policy_says_how_often() {
    guarded(|| {
        for (policy, times) in [(OnDeath::CountLost, 1), (OnDeath::RedeliverAtMost(2), 3)] {
            let queue = JoinableQueue::with_policy(Some(5), policy).unwrap();
            queue.put(7).unwrap();
            for delivery in 1..=times {
                let (value, claim) = queue.try_claim().unwrap();
                assert_eq!((value, claim.deliveries()), (7, delivery));
            }
            assert!(queue.try_claim().unwrap_err().is_empty(), "{policy:?}");
            queue.join().unwrap();
            assert_eq!(queue.lost(), 1);
        }
    });
}

#[test]
fn a_bound_of_zero_is_an_error() {
    guarded(|| {
        let error = JoinableQueue::<u8>::bounded(0).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_value_with_handles_is_counted_lost() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put(Some(Passed(File::open("/dev/null").unwrap()))).unwrap();
        queue.put(None).unwrap();
        let (file, claim) = queue.claim().unwrap();
        assert!(file.is_some());
        drop(claim);
        let (file, claim) = queue.claim().unwrap();
        assert!(file.is_none());
        claim.done().unwrap();
        queue.join().unwrap();
        assert_eq!(queue.lost(), 1);
    });
}

#[derive(Serialize)]
struct Odd(u8);

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Odd, D::Error> {
        let n = u8::deserialize(deserializer)?;
        if n % 2 == 1 { Ok(Odd(n)) } else { Err(de::Error::custom("even")) }
    }
}

#[test]
fn a_value_that_cannot_be_decoded_is_counted_lost_and_the_queue_goes_on() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        (0..4).for_each(|n| queue.put(Odd(n)).unwrap());
        let got: Vec<_> = (0..4).map(|_| queue.get().ok()).collect();
        assert_eq!(got.iter().flatten().map(|odd| odd.0).collect::<Vec<_>>(), [1, 3]);
        (0..2).for_each(|_| queue.task_done().unwrap());
        queue.join().unwrap();
        assert_eq!(queue.lost(), 2);
    });
}

/// Bytes that tell of any that are missing or from elsewhere.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| ((n % 251) ^ size) as u8).collect()
}

#[test]
fn values_of_every_size_come_back_whole() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        let sizes = [0, 1, 63, 64, 65, 4095, 65_535, 65_536, 65_537, 200_000, 3 << 20];
        for round in 0..3 {
            let turned = sizes.iter().cycle().skip(round * 4).take(sizes.len());
            for size in turned.clone() {
                queue.put(pattern(*size)).unwrap();
            }
            let claims: Vec<_> = sizes.iter().map(|_| queue.claim().unwrap()).collect();
            drop(claims);
            for size in turned {
                let (value, claim) = queue.claim().unwrap();
                assert!(value == pattern(*size), "{size} bytes");
                claim.done().unwrap();
            }
        }
        queue.join().unwrap();
    });
}

#[test]
fn many_claims_at_once_and_their_memory_goes_back() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        let count = 20_000_u32;
        let value = |n: u32| {
            let mut bytes = vec![7; if n == count { 8 << 20 } else { 300 }];
            bytes[..4].copy_from_slice(&n.to_ne_bytes());
            bytes
        };
        for round in 0..2 {
            (0..=count).for_each(|n| queue.put(value(n)).unwrap());
            (0..=count).for_each(|n| assert!(queue.get().unwrap() == value(n)));
            assert_eq!(queue.unfinished(), count as usize + 1, "round {round}");
            assert!(memory() > 16 << 20);
            (0..=count).for_each(|_| queue.task_done().unwrap());
            queue.join().unwrap();
            mp_test::until("the memory is back", || {
                assert!(queue.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
                // The table stays: 64 bytes for each claim that there was at once.
                memory() < 4 << 20
            });
        }
    });
}

#[test]
fn closed_and_drained_is_closed_also_with_claims_open() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put(1).unwrap();
        let (_, claim) = queue.claim().unwrap();
        queue.close().unwrap();
        assert!(queue.get().unwrap_err().is_closed());
        drop(claim);
        // It came back, and can be got although the queue is closed.
        assert_eq!(queue.get().unwrap(), 1);
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}
