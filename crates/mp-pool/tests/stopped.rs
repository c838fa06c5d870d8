//! Workers that are stopped (SIGSTOP, a debugger, a frozen group) before they have begun with what they were sent.

use mp_pool::{Pool, TaskError};
use mp_shm::{Array, Value};
use mp_test::until;
use rustix::process::{Pid, Signal, kill_process};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn pid() -> u32 {
    std::process::id()
}

fn square(n: u64) -> u64 {
    n * n
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    // It may have ended meanwhile.
    let _ = kill_process(pid, signal);
}

/// Counts its run.
fn visit(visits: Array<u32>, n: usize) -> u32 {
    visits.at(n).fetch_add(1);
    pid()
}

/// The pids of all workers, each of which has run something and is idle.
fn pids(pool: &Pool) -> Vec<u32> {
    pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect()
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let stopped = pids(&pool)[0];
        signal(stopped, Signal::STOP);
        let results: Vec<_> = (0..10).map(|n| pool.apply_async(square, (n,))).collect();
        assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n * n));
    });
}

#[test]
fn what_a_stopped_worker_has_not_begun_runs_elsewhere_once() {
    const TASKS: usize = 100;
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let stopped = pids(&pool)[0];
        signal(stopped, Signal::STOP);
        let visits = Array::<u32>::new(TASKS).unwrap();
        let results: Vec<_> = (0..TASKS).map(|n| pool.apply_async(visit, (visits.clone(), n))).collect();
        for result in results {
            assert_ne!(result.get().unwrap(), stopped);
        }
        // It finds what it was sent, and none of it is its own any more.
        signal(stopped, Signal::CONT);
        assert_eq!(pids(&pool)[0], stopped, "a stopped worker that nobody needed was replaced");
        assert_eq!(visits.to_vec(), [1; TASKS]);
        assert!(pool.stats().deaths.is_empty(), "{:?}", pool.stats());
    });
}

#[test]
fn nobody_need_wait_for_a_result_to_see_it_run_elsewhere() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let stopped = pids(&pool)[0];
        signal(stopped, Signal::STOP);
        let (sender, receiver) = mpsc::channel();
        for n in 0..4 {
            let (sender, failed) = (sender.clone(), sender.clone());
            let callback = move |value| sender.send(Ok(value)).expect("a receiver");
            let error_callback = move |error| failed.send(Err(error)).expect("a receiver");
            pool.apply_async_with(square, (n,), callback, error_callback);
        }
        drop(sender);
        let mut values: Vec<u64> = receiver.iter().map(Result::<u64, TaskError>::unwrap).collect();
        values.sort_unstable();
        assert_eq!(values, [0, 1, 4, 9]);
    });
}

#[test]
fn a_stopped_worker_is_replaced_when_only_it_could_run_what_waits() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let stopped = pids(&pool)[0];
        signal(stopped, Signal::STOP);
        let visits = Array::<u32>::new(3).unwrap();
        let results: Vec<_> = (0..3).map(|n| pool.apply_async(visit, (visits.clone(), n))).collect();
        for result in results {
            assert_ne!(result.get().unwrap(), stopped);
        }
        assert_eq!(visits.to_vec(), [1; 3]);
        let deaths = pool.stats().deaths;
        assert!(deaths.keys().any(|cause| cause.contains("did not begin")), "{deaths:?}");
    });
}

#[test]
fn the_keys_of_a_stopped_worker_go_to_the_one_that_replaces_it() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let home = pool.task(pid).key("a").apply(()).unwrap();
        let others: Vec<u32> = pids(&pool).into_iter().filter(|pid| *pid != home).collect();
        signal(home, Signal::STOP);
        let keyed: Vec<_> = (0..5).map(|_| pool.task(pid).key("a").apply_async(())).collect();
        let keyed: Vec<u32> = keyed.into_iter().map(|result| result.get().unwrap()).collect();
        assert!(keyed.iter().all(|pid| *pid == keyed[0] && *pid != home && !others.contains(pid)));
    });
}

#[test]
fn a_broadcast_to_a_stopped_worker_runs_in_the_one_that_replaces_it() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let before = pids(&pool);
        signal(before[1], Signal::STOP);
        let after = pids(&pool);
        assert!(after[0] == before[0] && after[1] != before[1], "{before:?} {after:?}");
    });
}

/// Workers are stopped and go on at about the moment at which their work is taken back.
#[test]
fn nothing_runs_twice_whenever_a_stopped_worker_goes_on() {
    const TASKS: usize = 40;
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let workers = pids(&pool);
        let visits = Array::<u32>::new(4 * TASKS).unwrap();
        for round in 0..4_usize {
            let stopped = workers[round % 2];
            signal(stopped, Signal::STOP);
            let task = |n| pool.apply_async(visit, (visits.clone(), n));
            let results: Vec<_> = (round * TASKS..(round + 1) * TASKS).map(task).collect();
            thread::sleep(Duration::from_millis(1970 + 20 * round as u64));
            signal(stopped, Signal::CONT);
            assert!(results.into_iter().all(|result| result.get().is_ok()));
        }
        // Behind everything that was ever sent to them.
        pids(&pool);
        assert_eq!(visits.to_vec(), [1; 4 * TASKS]);
    });
}

#[test]
fn a_stopped_worker_holds_up_neither_the_end_nor_a_resize() {
    guarded(|| {
        for end in 0..3 {
            let pool = Pool::builder().workers(2).grace(Duration::from_millis(10)).build().unwrap();
            signal(pids(&pool)[1], Signal::STOP);
            let results: Vec<_> = (0..20).map(|n| pool.apply_async(square, (n,))).collect();
            match end {
                0 => pool.terminate(),
                1 => pool.close(),
                _ => {
                    pool.resize(1).unwrap();
                    results.iter().for_each(mp_pool::AsyncResult::wait);
                    pool.close();
                }
            }
            pool.join().unwrap();
            assert!(results.into_iter().all(|result| end == 0 || result.get().is_ok()));
        }
    });
}

#[test]
fn a_task_that_is_stopped_while_it_runs_goes_on_when_it_may() {
    fn linger(flag: Value<u32>) -> u32 {
        flag.set(1);
        while flag.get() != 2 {
            thread::yield_now();
        }
        pid()
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let flag = Value::new(0).unwrap();
        let running = pool.apply_async(linger, (flag.clone(),));
        mp_test::until("it runs", || flag.get() == 1);
        let others = pids_of_others(&pool);
        let stopped =
            own_children().into_iter().find(|pid| !others.contains(pid)).expect("the one that runs");
        signal(stopped, Signal::STOP);
        // What waits there is taken by the other one; what runs is nobody else's.
        let results: Vec<_> = (0..50).map(|n| pool.apply_async(square, (n,))).collect();
        assert!((0..).zip(results).all(|(n, result)| result.get().unwrap() == n * n));
        assert!(!running.ready());
        signal(stopped, Signal::CONT);
        flag.set(2);
        assert_eq!(running.get().unwrap(), stopped);
    });
}

fn pids_of_others(pool: &Pool) -> Vec<u32> {
    (0..20).map(|_| pool.apply(pid, ()).expect("the other one")).collect()
}

/// The workers: children by that name, so never a fork server.
fn own_children() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect::<Vec<_>>().join(" ");
    let is_worker = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("PoolWorker"))
    };
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_worker).collect()
}

/// Whether each of the pools' threads sleeps.
fn keepers_sleep() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let awake = |stat: &String| stat.contains("(mp-pool)") && !stat.contains("(mp-pool) S");
    !stats.into_iter().any(|stat| awake(&stat))
}

#[test]
fn a_task_that_begins_while_its_pool_sleeps_has_its_time_out() {
    fn hang() {
        loop {
            thread::park();
        }
    }
    fn take_a_second() {
        thread::sleep(Duration::from_secs(1));
    }
    guarded(|| {
        let (pool, other) = (Pool::new(1).unwrap(), Pool::new(1).unwrap());
        pids(&other);
        let stopped = pids(&pool)[0];
        signal(stopped, Signal::STOP);
        let hangs = pool.task(hang).timeout(Duration::from_millis(50)).apply_async(());
        until("the pool sleeps", keepers_sleep);
        let takes_a_second = other.apply_async(take_a_second, ());
        signal(stopped, Signal::CONT);
        // Nobody waits for the first, so nobody but its pool's thread looks.
        takes_a_second.get().unwrap();
        assert!(hangs.ready(), "a time-out of 50 ms was not noticed in a second");
        assert!(matches!(hangs.get(), Err(TaskError::TimedOut)));
    });
}
