//! What a pool does with tasks that go well.

use mp_pool::{Pool, PoolError, TaskError};
use mp_test::guarded;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn own_pid() -> u32 {
    std::process::id()
}

fn add(a: String, b: u8) -> String {
    format!("{a}{b}")
}

fn sleep(milliseconds: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    std::process::id()
}

fn fail(text: String) -> Result<(), mp_pool::RemoteError> {
    text.parse::<i32>()?;
    Ok(())
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
        assert_eq!(pool.apply(add, ("x".to_owned(), 1)).unwrap(), "x1");
        assert_ne!(pool.apply(own_pid, ()).unwrap(), std::process::id());
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn no_workers_is_an_error() {
    assert!(matches!(Pool::new(0), Err(PoolError::NoWorkers)));
}

#[test]
fn thirty_two_tasks_run_in_at_most_sixteen_processes() {
    guarded(|| {
        let pool = Pool::new(16).unwrap();
        let results: Vec<_> = (0..32).map(|_| pool.apply_async(sleep, (20,))).collect();
        let pids: BTreeSet<u32> = results.into_iter().map(|result| result.get().unwrap()).collect();
        assert!(pids.len() <= 16 && pids.len() > 1, "{pids:?}");
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn join_of_an_open_pool_is_an_error_that_gives_it_back() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let error = pool.join().unwrap_err();
        assert!(error.to_string().contains("close"), "{error}");
        let pool = error.0;
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn close_runs_what_was_submitted_and_takes_no_more() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let results: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
        pool.close();
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Closed)));
        pool.join().unwrap();
        for (n, result) in (0..100_u64).zip(results) {
            assert_eq!(result.get().unwrap(), n * n);
        }
    });
}

#[test]
fn terminate_cancels_what_is_not_done() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let results: Vec<_> = (0..10).map(|_| pool.apply_async(sleep, (600_000,))).collect();
        pool.terminate();
        pool.join().unwrap();
        for result in results {
            assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        }
    });
}

#[test]
fn a_dropped_pool_leaves_nothing() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let result = pool.apply_async(sleep, (600_000,));
        drop(pool);
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
    });
}

#[test]
fn map_keeps_the_order_and_gives_the_first_error() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let squares = pool.map(square, 0..1000).unwrap();
        assert!(squares.into_iter().eq((0..1000).map(|n| n * n)));
        assert_eq!(pool.map(square, []).unwrap(), []);
        let pairs = (0..9_u8).map(|n| ("p".to_owned(), n));
        assert_eq!(pool.starmap(add, pairs).unwrap()[8], "p8");
        assert!(pool.map(refuse_odd, 0..10).is_err());
        let results = pool.try_map(refuse_odd, 0..10);
        assert!(results.iter().enumerate().all(|(n, result)| result.is_ok() == (n % 2 == 0)));
    });
}

fn refuse_odd(n: u64) -> u64 {
    assert!(n.is_multiple_of(2), "odd");
    n
}

#[test]
fn imap_is_lazy_and_in_order() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let mut taken = 0;
        let endless = std::iter::from_fn(|| {
            taken += 1;
            Some(taken)
        });
        let first: Vec<u64> = pool.imap(square, endless).take(100).map(Result::unwrap).collect();
        assert!(first.iter().copied().eq((1..=100).map(|n: u64| n * n)));
        assert!(taken <= 100 + 2 * 4, "{taken} were taken for 100");
        let some: BTreeSet<u64> = pool.imap_unordered(square, 0..50).map(Result::unwrap).collect();
        assert_eq!(some, (0..50).map(|n| n * n).collect());
    });
}

#[test]
fn an_err_is_a_result_and_a_panic_an_error() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let error = pool.apply(fail, ("x".to_owned(),)).unwrap().unwrap_err();
        assert_eq!(error.kind(), "core::num::error::ParseIntError");
        match pool.apply(refuse_odd, (1,)) {
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(panic.message, "odd");
                assert!(panic.location.contains("pool.rs"), "{}", panic.location);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn callbacks_are_called_and_a_panicking_one_harms_nobody() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let (sender, receiver) = mpsc::channel();
        pool.apply_async_with(square, (2,), |_| panic!("in a callback"), |_| {});
        let told = sender.clone();
        pool.apply_async_with(square, (5,), move |value| told.send(value.to_string()).unwrap(), |_| {});
        pool.apply_async_with(refuse_odd, (1,), |_| {}, move |error| sender.send(error.to_string()).unwrap());
        let mut heard: Vec<String> = receiver.iter().take(2).collect();
        heard.sort();
        assert_eq!(heard[0], "25");
        assert!(heard[1].contains("odd"), "{heard:?}");
    });
}

#[test]
fn get_timeout_gives_the_handle_back_and_lasts() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let result = pool.apply_async(sleep, (300,));
        let before = Instant::now();
        let result = result.get_timeout(Duration::from_millis(50)).unwrap_err();
        assert!(before.elapsed() >= Duration::from_millis(50));
        assert!(!result.ready());
        result.wait();
        assert_eq!(result.successful(), Some(true));
        result.get().unwrap();
    });
}

#[test]
fn large_arguments_and_results_cross() {
    fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let results: Vec<_> = (0..6).map(|_| pool.apply_async(reversed, (bytes.clone(),))).collect();
        for result in results {
            assert!(result.get().unwrap().iter().rev().eq(&bytes));
        }
    });
}

#[test]
fn an_initializer_runs_in_each_worker_and_a_failing_one_breaks_the_pool() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SET: AtomicU64 = AtomicU64::new(0);
    fn set(value: u64) {
        SET.store(value, Ordering::Relaxed);
    }
    fn read() -> u64 {
        SET.load(Ordering::Relaxed)
    }
    fn fails() {
        panic!("no good");
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).initializer(set, (7,)).build().unwrap();
        assert_eq!(pool.apply(read, ()).unwrap(), 7);
        drop(pool);
        let pool = Pool::builder().workers(1).initializer(fails, ()).build().unwrap();
        match pool.apply(read, ()) {
            Err(TaskError::Broken(why)) => assert!(why.contains("no good"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(pool.broken().is_some());
    });
}
