//! A queue within one process: what every form of put and get does.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{Queue, TryGetError, TryPutError};
use mp_test::guarded;
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn smoke() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put("obj".to_owned()).unwrap();
        assert_eq!(queue.get().unwrap(), "obj");
    });
}

#[test]
fn values_come_in_the_order_in_which_they_were_put() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for round in 0..50 {
            for n in 0..100 {
                queue.put((round, n, "x".repeat(n))).unwrap();
            }
            for n in 0..100 {
                assert_eq!(queue.get().unwrap(), (round, n, "x".repeat(n)));
            }
        }
    });
}

#[test]
fn a_value_is_there_as_soon_as_put_returns() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for n in 0..10_000 {
            queue.put(n).unwrap();
            assert_eq!(queue.try_get().unwrap(), n);
        }
    });
}

#[test]
fn a_full_queue_gives_the_value_back() {
    guarded(|| {
        let queue = Queue::bounded(2).unwrap();
        for n in [1, 2] {
            assert!(!queue.is_full());
            queue.try_put(n).unwrap();
        }
        assert!(queue.is_full());
        let error = queue.try_put(3).unwrap_err();
        assert!(error.is_full() && matches!(error, TryPutError::Full(3)), "{error}");
        assert_eq!(error.into_inner(), 3);
        let error = queue.put_timeout(4, Duration::ZERO).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.into_inner(), 4);
        assert_eq!(queue.get().unwrap(), 1);
        queue.try_put(3).unwrap();
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (2, 3));
    });
}

#[test]
fn an_empty_queue_says_so() {
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        assert!(queue.is_empty());
        assert!(matches!(queue.try_get(), Err(TryGetError::Empty)));
        assert!(queue.get_timeout(Duration::ZERO).unwrap_err().is_timeout());
    });
}

#[test]
fn a_time_out_lasts_at_least_so_long() {
    guarded(|| {
        let queue = Queue::bounded(1).unwrap();
        let start = Instant::now();
        assert!(queue.get_timeout(SHORT).unwrap_err().is_timeout());
        assert!(queue.get_deadline(start + 2 * SHORT).unwrap_err().is_timeout());
        assert!(start.elapsed() >= 2 * SHORT);
        queue.put(1).unwrap();
        let start = Instant::now();
        assert_eq!(queue.put_timeout(2, SHORT).unwrap_err().into_inner(), 2);
        assert_eq!(queue.put_deadline(3, start + 2 * SHORT).unwrap_err().into_inner(), 3);
        assert!(start.elapsed() >= 2 * SHORT);
    });
}

#[test]
fn a_time_out_covers_the_whole_operation_however_often_it_is_woken() {
    guarded(|| {
        let (empty, full) = (Queue::<u8>::new().unwrap(), Queue::bounded(1).unwrap());
        full.put(0).unwrap();
        let over = AtomicUsize::new(0);
        thread::scope(|scope| {
            // Each end that goes wakes all who wait, for nothing.
            for queue in [&empty, &full] {
                scope.spawn(|| {
                    while over.load(Relaxed) < 2 {
                        drop(queue.clone());
                    }
                });
            }
            scope.spawn(|| {
                let start = Instant::now();
                assert!(empty.get_timeout(5 * SHORT).unwrap_err().is_timeout());
                assert!(start.elapsed() >= 5 * SHORT);
                over.fetch_add(1, Relaxed);
            });
            scope.spawn(|| {
                let start = Instant::now();
                assert!(full.put_timeout(1, 5 * SHORT).unwrap_err().is_timeout());
                assert!(start.elapsed() >= 5 * SHORT);
                over.fetch_add(1, Relaxed);
            });
        });
    });
}

#[test]
fn put_waits_for_room_and_get_for_a_value() {
    guarded(|| {
        let (there, back) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2_000_u32 {
                    there.put(n).unwrap();
                }
                for n in 0..2_000_u32 {
                    assert_eq!(back.get_timeout(Duration::MAX).unwrap(), n);
                }
            });
            for n in 0..2_000_u32 {
                assert_eq!(there.get().unwrap(), n);
            }
            for n in 0..2_000_u32 {
                back.put_timeout(n, Duration::MAX).unwrap();
            }
        });
    });
}

#[test]
fn length_bound_and_fullness_are_exact_while_nobody_else_uses_it() {
    guarded(|| {
        let queue = Queue::bounded(3).unwrap();
        assert_eq!((queue.bound(), Queue::<u8>::new().unwrap().bound()), (Some(3), None));
        for n in 0..3 {
            assert_eq!((queue.len(), queue.is_empty(), queue.is_full()), (n, n == 0, false));
            queue.put(()).unwrap();
        }
        assert_eq!((queue.len(), queue.is_empty(), queue.is_full()), (3, false, true));
        let queue = Queue::new().unwrap();
        for n in 0..100_000_usize {
            assert!(!queue.is_full());
            queue.put(n).unwrap();
        }
        assert_eq!(queue.len(), 100_000);
        assert_eq!(format!("{queue:?}"), "Queue { len: 100000, bound: None, closed: false }");
    });
}

#[test]
fn a_bound_of_zero_is_an_error() {
    guarded(|| {
        assert_eq!(Queue::<u8>::bounded(0).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    });
}

#[test]
fn values_without_a_size_are_counted() {
    guarded(|| {
        let queue = Queue::bounded(5).unwrap();
        for _ in 0..1_000 {
            (0..5).for_each(|_| queue.put(()).unwrap());
            assert!(queue.try_put(()).unwrap_err().is_full());
            (0..5).for_each(|_| queue.get().unwrap());
            assert!(queue.try_get().unwrap_err().is_empty());
        }
    });
}

/// Four producers, four consumers; each value is seen once, and each consumer sees those of one producer in order.
fn many_threads(queue: &Queue<(usize, usize)>) {
    const EACH: usize = 2_000;
    let seen: Vec<AtomicUsize> = (0..4 * EACH).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = HashMap::new();
                for value in queue.iter() {
                    let (producer, n) = value.unwrap();
                    assert!(last.insert(producer, n).is_none_or(|before| before < n));
                    seen[producer * EACH + n].fetch_add(1, Relaxed);
                }
            });
        }
        thread::scope(|scope| {
            for producer in 0..4 {
                scope.spawn(move || (0..EACH).for_each(|n| queue.put((producer, n)).unwrap()));
            }
        });
        queue.close().unwrap();
    });
    assert!(seen.iter().all(|count| count.load(Relaxed) == 1));
}

#[test]
fn many_threads_share_a_queue() {
    guarded(|| many_threads(&Queue::new().unwrap()));
}

#[test]
fn many_threads_share_a_bounded_queue() {
    guarded(|| many_threads(&Queue::bounded(3).unwrap()));
}

#[test]
fn a_closed_queue_is_drained_and_then_closed() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let other = queue.clone();
        (0..3).for_each(|n| queue.put(n).unwrap());
        assert!(!queue.is_closed());
        other.close().unwrap();
        other.close().unwrap();
        assert!(queue.is_closed());
        let error = queue.put(9).unwrap_err();
        assert!(error.is_closed());
        assert_eq!(error.into_inner(), 9);
        assert_eq!(queue.try_put(8).unwrap_err().into_inner(), 8);
        assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(queue.get().unwrap_err().is_closed());
        let error = queue.try_get().unwrap_err();
        assert!(matches!(error, TryGetError::Failed(error) if error.is_closed()));
    });
}

#[test]
fn closing_ends_those_who_wait() {
    guarded(|| {
        for _ in 0..50 {
            let (empty, full) = (Queue::<u8>::new().unwrap(), Queue::bounded(1).unwrap());
            full.put(0).unwrap();
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert!(empty.get().unwrap_err().is_closed()));
                    scope.spawn(|| assert!(full.put(1).unwrap_err().is_closed()));
                }
                empty.close().unwrap();
                full.close().unwrap();
            });
            assert_eq!(full.get().unwrap(), 0);
        }
    });
}

#[test]
fn who_was_woken_and_gave_up_leaves_the_value_to_another() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        thread::scope(|scope| {
            let steady = scope.spawn(|| (0..500).map(|_| queue.get().unwrap()).sum::<u32>());
            for _ in 0..2 {
                scope.spawn(|| {
                    while !queue.is_closed() && queue.get_timeout(Duration::from_micros(50)).is_err() {}
                });
            }
            // Two values may go to the impatient ones, who then leave.
            (0..502).for_each(|_| queue.put(1).unwrap());
            assert_eq!(steady.join().unwrap(), 500);
            queue.close().unwrap();
        });
    });
}
