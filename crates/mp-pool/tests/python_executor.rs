//! What CPython's own tests of process pool executors show, shown here: one module for each of its classes, its names kept.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(non_snake_case, reason = "modules are named as CPython's classes")]

use mp_pool::{Cause, Pool, TaskError, as_completed};
use mp_test::until;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

mod methods;
mod traps;

use methods::guarded;
use traps::{Trap, exit, make, take};

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
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

fn abort() {
    std::process::abort();
}

/// The pool still serves.
fn serves(pool: &Pool) {
    assert!(pool.map(square, 0..20).unwrap().into_iter().eq((0..20).map(|n| n * n)));
}

mod ExecutorDeadlockTest {
    use super::*;

    /// One trap among good tasks: it alone has an error, and the pool serves on.
    fn check(run: impl Fn(&Pool) -> TaskError, is_right: impl Fn(&TaskError) -> bool) {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let good: Vec<_> = (0..50).map(|n| pool.apply_async(square, (n,))).collect();
            let error = run(&pool);
            assert!(is_right(&error), "{error:?}");
            assert!((0..).zip(good).all(|(n, result)| result.get().unwrap() == n * n));
            serves(&pool);
            pool.close();
            pool.join().unwrap();
        });
    }

    fn argument(trap: Trap) -> impl Fn(&Pool) -> TaskError {
        move |pool| pool.apply(take, (trap,)).unwrap_err()
    }

    fn result(number: u64) -> impl Fn(&Pool) -> TaskError {
        move |pool| pool.apply(make, (number,)).unwrap_err()
    }

    fn aborted(error: &TaskError) -> bool {
        matches!(error, TaskError::WorkerDied { cause: Cause::Signal { number: 6, .. }, .. })
    }

    fn exited(error: &TaskError) -> bool {
        matches!(error, TaskError::WorkerDied { cause: Cause::Exit(0), .. })
    }

    #[test]
    fn test_error_at_task_pickle() {
        check(argument(Trap::ErrorWhenEncoded), |error| matches!(error, TaskError::Encode(_)));
    }

    #[test]
    fn test_exit_at_task_unpickle() {
        check(argument(Trap::ExitWhenDecoded), exited);
    }

    #[test]
    fn test_error_at_task_unpickle() {
        check(argument(Trap::ErrorWhenDecoded), |error| matches!(error, TaskError::Arguments(_)));
    }

    #[test]
    fn test_crash_at_task_unpickle() {
        check(argument(Trap::CrashWhenDecoded), aborted);
    }

    #[test]
    fn test_crash_during_func_exec_on_worker() {
        check(|pool| pool.apply(abort, ()).unwrap_err(), aborted);
    }

    #[test]
    fn test_exit_during_func_exec_on_worker() {
        fn leave() {
            exit();
        }
        check(|pool| pool.apply(leave, ()).unwrap_err(), exited);
    }

    #[test]
    fn test_error_during_func_exec_on_worker() {
        check(|pool| pool.apply(fail, ()).unwrap_err(), |error| matches!(error, TaskError::Panicked(_)));
    }

    #[test]
    fn test_crash_during_result_pickle_on_worker() {
        check(result(6), aborted);
    }

    #[test]
    fn test_exit_during_result_pickle_on_worker() {
        check(result(5), exited);
    }

    #[test]
    fn test_error_during_result_pickle_on_worker() {
        check(result(1), |error| matches!(error, TaskError::Unencodable(_)));
    }

    #[test]
    fn test_error_during_result_unpickle_in_result_handler() {
        check(result(2), |error| matches!(error, TaskError::Undecodable(_)));
    }

    #[test]
    fn test_shutdown_deadlock() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let bad = pool.apply_async(abort, ());
            pool.close();
            pool.join().unwrap();
            assert!(aborted(&bad.get().unwrap_err()));
        });
    }

    #[test]
    fn test_shutdown_deadlock_pickle() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let bad = pool.apply_async(take, (Trap::ErrorWhenEncoded,));
            pool.close();
            pool.join().unwrap();
            assert!(matches!(bad.get(), Err(TaskError::Encode(_))));
        });
    }

    #[test]
    fn test_crash_big_data() {
        fn die_of(data: String) {
            drop(data);
            std::process::abort();
        }
        check(|pool| pool.apply(die_of, ("x".repeat(4 << 20),)).unwrap_err(), aborted);
    }

    #[test]
    fn test_gh105829_should_not_deadlock_if_wakeup_pipe_full() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let results: Vec<_> = (0..100_000).map(|n| pool.apply_async(square, (n,))).collect();
            assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n * n));
        });
    }
}

mod ExecutorTest {
    use super::*;

    #[test]
    fn test_map_exception() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let mut results = pool.imap(fail_at_five, 0..10);
            for n in 0..10 {
                assert_eq!(results.next().unwrap().is_ok(), n != 5, "the error keeps its place");
            }
        });
    }

    fn fail_at_five(n: u64) -> u64 {
        assert!(n != 5, "five");
        n
    }

    #[test]
    fn test_map_buffersize_when_buffer_is_full() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            for size in [1, 2, 5] {
                let mut pulled = 0;
                let items = (0..).inspect(|_| pulled += 1);
                let came = pool.task(square).buffer(size).imap(items).take(3).count();
                assert_eq!(came, 3);
                assert!(pulled <= 3 + size as u64, "{pulled} were pulled with a buffer of {size}");
            }
        });
    }

    #[test]
    fn test_shutdown_race_issue12456() {
        guarded(|| {
            let pool = Pool::new(3).unwrap();
            let result = pool.map_async(square, [1, 2, 3]);
            drop(pool);
            let _ = result.get();
        });
    }

    #[test]
    fn test_killed_child() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let worker = pool.apply(pid, ()).unwrap();
            let running = pool.apply_async(hang, ());
            until("the task runs", || pool.stats().at_workers == 1);
            thread::sleep(Duration::from_millis(1));
            let worker = rustix::process::Pid::from_raw(worker.cast_signed()).unwrap();
            rustix::process::kill_process(worker, rustix::process::Signal::TERM).unwrap();
            // Whether it had started is not known here: then it runs elsewhere.
            if let Ok(result) = running.get_timeout(Duration::from_millis(300)) {
                assert!(matches!(
                    result,
                    Err(TaskError::WorkerDied { cause: Cause::Signal { number: 15, .. }, .. })
                ));
                serves(&pool);
            }
        });
    }

    #[test]
    fn test_cancel_futures() {
        guarded(|| {
            let pool = Pool::new(1).unwrap();
            let results: Vec<_> = (0..50).map(|n| pool.apply_async(sleep_then, (5, n))).collect();
            for result in results.iter().skip(1) {
                let _ = result.cancel();
            }
            pool.close();
            pool.join().unwrap();
            let cancelled = results.into_iter().filter(|result| result.successful() == Some(false)).count();
            assert!(cancelled >= 40, "{cancelled} of 49 were cancelled");
        });
    }

    #[test]
    fn test_no_timeout_as_completed() {
        guarded(|| {
            let pool = Pool::new(2).unwrap();
            let done = pool.apply_async(square, (1,));
            done.wait();
            let results = [done, pool.apply_async(square, (2,)), pool.apply_async(square, (3,))];
            let numbers: BTreeSet<usize> = as_completed(results).map(|(number, _)| number).collect();
            assert_eq!(numbers.len(), 3);
        });
    }
}
