//! What CPython's own tests of pools and executors show, shown here: one module for each of its classes, its names kept.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(non_snake_case, reason = "modules are named as CPython's classes")]

use mp_pool::{NotYet, Pool, PoolError, TaskError};
use mp_shm::Value;
use mp_test::until;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

mod methods;
mod traps;

use methods::guarded;
use traps::{Trap, make, take};

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn sleep_then(milliseconds: u64, value: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    value
}

fn hang() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn fail() {
    panic!("it failed");
}

fn pid() -> u32 {
    std::process::id()
}

/// The pool still serves.
fn serves(pool: &Pool) {
    assert!(pool.map(square, 0..20).unwrap().into_iter().eq((0..20).map(|n| n * n)));
}

/// Gives items up to `good`, then panics.
fn exploding(good: u64) -> impl Iterator<Item = u64> {
    (0..).inspect(move |n| assert!(*n < good, "no more items"))
}

fn caught<R>(body: impl FnOnce() -> R) -> thread::Result<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
}

mod _TestPool {
    use super::*;

    #[test]
    fn test_apply() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
            assert_eq!(pool.apply(add, (2, 3)).unwrap(), 5);
        });
    }

    #[test]
    fn test_map() {
        guarded(|| {
            let pool = Pool::new(3).unwrap();
            let squares: Vec<u64> = (0..100).map(square).collect();
            assert_eq!(pool.map(square, 0..100).unwrap(), squares);
            assert_eq!(pool.task(square).chunk_size(20).map(0..100).unwrap(), squares);
        });
    }

    #[test]
    fn test_starmap() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let pairs = || (0..10).zip((0..10).rev());
            assert_eq!(pool.starmap(add, pairs()).unwrap(), [9; 10]);
            assert_eq!(pool.task(add).chunk_size(3).starmap(pairs()).unwrap(), [9; 10]);
        });
    }

    #[test]
    fn test_starmap_async() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.starmap_async(add, (0..10).zip(0..10)).get().unwrap()[9], 18);
        });
    }

    #[test]
    fn test_map_async() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let squares: Vec<u64> = (0..10).map(square).collect();
            assert_eq!(pool.map_async(square, 0..10).get().unwrap(), squares);
        });
    }

    #[test]
    fn test_map_unplicklable() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let result = pool.map(take, [Trap::None, Trap::ErrorWhenEncoded, Trap::None]);
            assert!(matches!(result, Err(TaskError::Encode(_))), "{result:?}");
            let results = pool.try_map(take, [Trap::None, Trap::ErrorWhenEncoded, Trap::None]);
            assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok());
            serves(&pool);
        });
    }

    #[test]
    fn test_map_chunksize() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.task(square).chunk_size(1).map_async([]).get().unwrap(), []);
            for count in [0, 1, 2, 3, 4, 5, 30] {
                for chunk in [1, 2, 3, 100] {
                    let squares = pool.task(square).chunk_size(chunk).map(0..count).unwrap();
                    assert!(
                        squares.into_iter().eq((0..count).map(square)),
                        "{count} items in chunks of {chunk}"
                    );
                }
            }
        });
    }

    #[test]
    fn test_map_handle_iterable_exception() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            for good in [0, 2] {
                assert!(caught(|| pool.map(square, exploding(good))).is_err());
                assert!(caught(|| pool.map_async(square, exploding(good))).is_err());
            }
            serves(&pool);
        });
    }

    #[test]
    fn test_async() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let start = Instant::now();
            assert_eq!(pool.apply_async(sleep_then, (50, 7)).get().unwrap(), 7);
            assert!(start.elapsed() >= Duration::from_millis(50));
        });
    }

    #[test]
    fn test_async_timeout() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let start = Instant::now();
            let result = pool.apply_async(hang, ()).get_timeout(Duration::from_millis(30)).unwrap_err();
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert!(!result.ready());
        });
    }

    #[test]
    fn test_imap() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            assert!(pool.imap(square, 0..100).map(Result::unwrap).eq((0..100).map(square)));
            let mut some = pool.imap(square, 0..3);
            assert_eq!([0; 3].map(|_| some.next().unwrap().unwrap()), [0, 1, 4]);
            assert!(some.next().is_none() && some.next().is_none());
            let mut slow = pool.imap(hang_for_ever, 0..1);
            assert!(matches!(slow.next_timeout(Duration::from_millis(10)), Err(NotYet)));
        });
    }

    fn hang_for_ever(_: u64) {
        hang();
    }

    #[test]
    fn test_imap_handle_iterable_exception() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            for good in [0, 9] {
                let mut came = 0;
                let end = caught(|| {
                    for (n, result) in (0..).zip(pool.task(square).buffer(1).imap(exploding(good))) {
                        assert_eq!(result.unwrap(), square(n));
                        came += 1;
                    }
                });
                assert!(end.is_err());
                assert_eq!(came, good, "what came before is delivered");
            }
            serves(&pool);
        });
    }

    #[test]
    fn test_imap_unordered() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let came: BTreeSet<u64> = pool.imap_unordered(square, 0..100).map(Result::unwrap).collect();
            assert!(came.into_iter().eq((0..100).map(square)));
        });
    }

    #[test]
    fn test_imap_unordered_handle_iterable_exception() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let mut came = BTreeSet::new();
            let end = caught(|| {
                let stream = pool.task(square).buffer(1).imap_unordered(exploding(9));
                stream.for_each(|result| assert!(came.insert(result.unwrap())));
            });
            assert!(end.is_err());
            assert!(came.into_iter().eq((0..9).map(square)), "what came before is delivered");
            serves(&pool);
        });
    }

    #[test]
    fn test_make_pool() {
        guarded(|| {
            assert!(matches!(Pool::new(0), Err(PoolError::NoWorkers)));
            assert_eq!(Pool::new(3).unwrap().workers(), 3);
        });
    }

    #[test]
    fn test_terminate() {
        guarded(|| {
            let pool = Pool::new(3).unwrap();
            let results: Vec<_> = (0..10_000).map(|_| pool.apply_async(hang, ())).collect();
            pool.terminate();
            pool.join().unwrap();
            assert!(results.into_iter().all(|result| matches!(result.get(), Err(TaskError::Cancelled))));
        });
    }

    #[test]
    fn test_empty_iterable() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            assert_eq!(pool.map(square, []).unwrap(), []);
            assert_eq!(pool.imap(square, []).count(), 0);
            assert_eq!(pool.imap_unordered(square, []).count(), 0);
            assert_eq!(pool.map_async(square, []).get().unwrap(), []);
        });
    }

    #[test]
    fn test_context() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let result = pool.map_async(square, 0..10);
            assert_eq!(result.get().unwrap().len(), 10);
            pool.terminate();
            assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Closed)));
            pool.join().unwrap();
        });
    }

    #[test]
    fn test_traceback() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let Err(TaskError::Panicked(panic)) = pool.apply(fail, ()) else { panic!("no panic came") };
            assert!(panic.message.contains("it failed"));
            assert!(panic.location.contains("python_pool.rs"), "{}", panic.location);
            assert!(panic.backtrace.contains("python_pool::fail"), "{}", panic.backtrace);
        });
    }

    #[test]
    fn test_wrapped_exception() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            assert_eq!(pool.apply(refuse, (3,)).unwrap(), Err(Refused { number: 3 }));
        });
    }

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Refused {
        number: u32,
    }

    fn refuse(number: u32) -> Result<(), Refused> {
        Err(Refused { number })
    }

    #[test]
    fn test_map_no_failfast() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            // Large errors, all of them asked for; and not, with a close and a join behind.
            let results = pool.try_map(large_error, 0..20);
            assert!(results.into_iter().all(|result| matches!(result, Err(TaskError::Panicked(_)))));
            let result = pool.map_async(large_error, 0..20);
            pool.close();
            pool.join().unwrap();
            assert!(result.get().is_err());
        });
    }

    fn large_error(_: u64) {
        panic!("{}", "x".repeat(1 << 20));
    }

    #[test]
    fn test_release_task_refs() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let segment = Value::new(1_u32).unwrap();
            let before = descriptors();
            pool.apply(read, (segment.clone(),)).unwrap();
            pool.map(read, [segment.clone(), segment.clone()]).unwrap();
            drop(segment);
            // One less than before: neither the arguments nor the results are kept.
            until("nothing holds the segment", || descriptors() < before);
        });
    }

    fn read(value: Value<u32>) -> u32 {
        value.get()
    }

    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn test_resource_warning() {
        guarded(|| drop(Pool::new(2).unwrap()));
    }
}

mod _TestPoolWorkerErrors {
    use super::*;

    #[test]
    fn test_async_error_callback() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let (sender, receiver) = mpsc::channel();
            pool.apply_async_with(
                fail,
                (),
                |()| panic!("it did not fail"),
                move |error| {
                    sender.send(error.to_string()).unwrap();
                },
            );
            assert!(receiver.recv().unwrap().contains("it failed"));
            assert!(pool.apply_async(fail, ()).get().is_err());
        });
    }

    #[test]
    fn test_unpickleable_result() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let worker = pool.apply(pid, ()).unwrap();
            for _ in 0..20 {
                assert!(matches!(pool.apply(make, (1,)), Err(TaskError::Unencodable(_))));
            }
            assert_eq!(pool.apply(pid, ()).unwrap(), worker);
        });
    }
}

mod _TestPoolWorkerLifetime {
    use super::*;

    #[test]
    fn test_pool_worker_lifetime() {
        guarded(|| {
            let pool = Pool::builder().workers(3).max_tasks_per_child(10).build().unwrap();
            let first: BTreeSet<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
            let results: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
            assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n * n));
            until("three workers are there", || pool.stats().workers == 3);
            let last: BTreeSet<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
            assert!(first.is_disjoint(&last), "{first:?} {last:?}");
        });
    }

    #[test]
    fn test_pool_worker_lifetime_early_close() {
        guarded(|| {
            let pool = Pool::builder().workers(3).max_tasks_per_child(1).build().unwrap();
            let results: Vec<_> = (0..6).map(|n| pool.apply_async(sleep_then, (3, n))).collect();
            pool.close();
            pool.join().unwrap();
            assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n));
        });
    }

    #[test]
    fn test_pool_maxtasksperchild_invalid() {
        guarded(|| {
            assert!(matches!(Pool::builder().max_tasks_per_child(0).build(), Err(PoolError::Zero(_))));
        });
    }

    #[test]
    fn test_worker_finalization_via_atexit_handler_of_multiprocessing() {
        if mp_test::role().is_some() {
            // Never dropped: the process ends with it.
            let pool = Pool::new(2).unwrap();
            drop(pool.apply_async(hang, ()));
            std::mem::forget(pool);
            return;
        }
        mp_test::guarded_with_orphans(|| {
            let test =
                "_TestPoolWorkerLifetime::test_worker_finalization_via_atexit_handler_of_multiprocessing";
            let role = mp_test::command(test, "unclosed");
            assert!(mp_test::Role::start(role).wait().success());
        });
    }
}

mod TestInitializers {
    use super::*;

    #[test]
    fn test_pool_initializer() {
        guarded(|| {
            let pool = Pool::builder().workers(2).initializer(mark, (7,)).build().unwrap();
            let marks = pool.broadcast(marked, &());
            assert_eq!(marks.len(), 2);
            assert!(marks.into_iter().all(|mark| mark.unwrap() == 7));
        });
    }

    fn mark(number: u32) {
        mp_pool::set_state(number);
    }

    fn marked() -> u32 {
        mp_pool::with_state(|number: &u32| *number)
    }
}
