//! The end of a pool, whichever way; and pools that hold very much.

use mp_pool::{AsyncResult, Pool, TaskError};
use mp_shm::Value;
use mp_test::until;
use std::thread;
use std::time::Duration;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn hang() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn run_until_two(flag: Value<u32>) -> u32 {
    flag.set(1);
    while flag.get() != 2 {
        thread::yield_now();
    }
    7
}

fn interrupt_self() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT).expect("a signal");
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        pool.close();
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn the_first_ctrl_c_lets_what_runs_end_and_cancels_the_rest() {
    guarded(|| {
        let pool = Pool::builder().workers(1).ctrl_c(true).build().unwrap();
        let flag = Value::new(0).unwrap();
        let running = pool.apply_async(run_until_two, (flag.clone(),));
        until("the task runs", || flag.get() == 1);
        let waiting: Vec<_> = (0..40).map(|n| pool.apply_async(square, (n,))).collect();
        interrupt_self();
        for result in waiting {
            assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        }
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Closed)));
        flag.set(2);
        assert_eq!(running.get().unwrap(), 7);
        pool.join().unwrap();
    });
}

#[test]
fn the_second_ctrl_c_ends_all() {
    guarded(|| {
        let pool = Pool::builder().workers(2).ctrl_c(true).build().unwrap();
        let results: Vec<_> = (0..10).map(|_| pool.apply_async(hang, ())).collect();
        interrupt_self();
        // The last one waits, so it tells when the first was seen: two that come as one are one.
        results[9].wait();
        interrupt_self();
        pool.join().unwrap();
        assert!(results.into_iter().all(|result| matches!(result.get(), Err(TaskError::Cancelled))));
    });
}

#[test]
fn no_handler_of_a_signal_is_installed_unless_asked_for() {
    /// The signals that this process catches.
    fn caught() -> String {
        let status = std::fs::read_to_string("/proc/self/status").expect("proc");
        status.lines().find(|line| line.starts_with("SigCgt")).expect("a line").to_owned()
    }
    let test = "no_handler_of_a_signal_is_installed_unless_asked_for";
    if mp_test::role().is_some() {
        let before = caught();
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(square, 0..10).unwrap()[3], 9);
        assert_eq!(caught(), before);
        let handles = Pool::builder().workers(1).ctrl_c(true).build().unwrap();
        assert_ne!(caught(), before);
        drop((pool, handles));
        mp_test::say("done");
        return;
    }
    guarded(|| {
        let mut role = mp_test::Role::start(mp_test::command(test, "alone"));
        role.expect("done");
        assert!(role.wait().success());
    });
}

fn interrupt() -> u32 {
    interrupt_self();
    std::process::id()
}

#[test]
fn a_worker_outlives_the_terminals_ctrl_c() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let first = pool.apply(interrupt, ()).unwrap();
        assert_eq!(pool.apply(interrupt, ()).unwrap(), first);
    });
}

#[test]
fn many_pools_one_after_the_other_leave_nothing() {
    guarded(|| {
        for n in 0..20 {
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
    });
}

#[test]
fn a_large_result_in_flight_does_not_hold_up_the_end() {
    fn large() -> String {
        "x".repeat(64 << 20)
    }
    guarded(|| {
        for terminate in [true, false] {
            let pool = Pool::new(1).unwrap();
            let result = pool.apply_async(large, ());
            if terminate {
                pool.terminate();
            } else {
                pool.close();
            }
            pool.join().unwrap();
            assert!(terminate || result.get().unwrap().len() == 64 << 20);
        }
    });
}

#[test]
fn a_pool_made_by_a_thread_that_ends_lives_on() {
    guarded(|| {
        let pool = thread::spawn(|| Pool::new(2).unwrap()).join().unwrap();
        assert_eq!(pool.map(square, 0..10).unwrap()[3], 9);
    });
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("proc").count()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc");
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// What README and lib.rs say of a queued task, its result's handle included.
const BYTES_A_TASK: usize = 700;

/// Queues so many squares behind what runs; they take no descriptors, and as little memory as is promised.
fn queued_in_little(pool: &Pool, tasks: usize) -> Vec<AsyncResult<u64>> {
    let (descriptors, memory) = (entries("/proc/self/fd"), resident());
    let results: Vec<_> = (0..tasks as u64).map(|n| pool.apply_async(square, (n,))).collect();
    assert!(entries("/proc/self/fd") <= descriptors);
    let each = resident().saturating_sub(memory) / tasks;
    assert!(each <= BYTES_A_TASK, "{each} bytes a queued task");
    results
}

#[test]
fn queued_tasks_use_no_descriptors_and_little_memory() {
    const TASKS: usize = 100_000;
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let flag = Value::new(0).unwrap();
        let first = pool.apply_async(run_until_two, (flag.clone(),));
        until("the task runs", || flag.get() == 1);
        let results = queued_in_little(&pool, TASKS);
        flag.set(2);
        first.get().unwrap();
        assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n * n));
    });
}

/// Once, not for each way to start: what waits here does not depend on it.
#[test]
fn a_million_queued_tasks_use_no_descriptors_and_the_documented_memory() {
    const TASKS: usize = 1_000_000;
    mp_test::guarded(|| {
        let pool = Pool::new(1).unwrap();
        let flag = Value::new(0).unwrap();
        let first = pool.apply_async(run_until_two, (flag.clone(),));
        until("the task runs", || flag.get() == 1);
        let results = queued_in_little(&pool, TASKS);
        let stats = pool.stats();
        assert_eq!(stats.queued + stats.at_workers, TASKS + 1);
        // Each of them ends all the same; that so many run is shown with fewer.
        pool.terminate();
        assert!(results.into_iter().all(|result| matches!(result.get(), Err(TaskError::Cancelled))));
        assert!(first.get().is_err());
    });
}

#[test]
fn an_endless_input_runs_in_flat_memory() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let mut stream = pool.imap(square, 0..);
        (0..2000).for_each(|n| assert_eq!(stream.next().unwrap().unwrap(), n * n));
        let before = resident();
        (2000..20_000).for_each(|n| assert_eq!(stream.next().unwrap().unwrap(), n * n));
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more after 18,000 items");
    });
}
