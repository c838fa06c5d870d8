//! Which worker runs what, and how workers come and go.

use mp_pool::{Pool, PoolError, TaskError, as_completed};
use mp_shm::Value;
use mp_test::until;
use std::cell::Cell;
use std::collections::BTreeSet;
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

fn pid_of(_: u64) -> u32 {
    std::process::id()
}

fn wait_for(flag: Value<u32>) -> u32 {
    flag.set(1);
    while flag.get() != 2 {
        thread::yield_now();
    }
    std::process::id()
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::builder().workers(2).max_tasks_per_child(5).build().unwrap();
        assert_eq!(pool.map(square, 0..20).unwrap()[7], 49);
    });
}

/// A line of the status that the system keeps of process `pid`.
fn status(pid: u32, line: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let value = text.lines().find_map(|other| other.strip_prefix(line)).expect("the system keeps it");
    value.trim().to_owned()
}

#[test]
fn a_task_wakes_no_worker_but_its_own() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let idle = pool.broadcast(pid, &()).pop().unwrap().unwrap();
        let switches = || status(idle, "voluntary_ctxt_switches:").parse::<u32>().unwrap();
        let sleeps = || until("the idle worker sleeps", || status(idle, "State:").starts_with('S'));
        sleeps();
        let before = switches();
        for n in 0..50 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
            sleeps();
        }
        // A few are of its own spinning, which it may have been in the middle of.
        assert!(switches() < before + 25, "woken {} times", switches() - before);
    });
}

#[test]
fn a_result_is_told_while_its_worker_has_much_left() {
    fn until_set(flag: Value<u32>) {
        while flag.get() == 0 {
            thread::yield_now();
        }
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let flag = Value::new(0_u32).unwrap();
        // Tasks have been quick so far.
        assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
        let first = pool.apply_async(square, (3,));
        let others: Vec<_> = (0..30).map(|_| pool.apply_async(until_set, (flag.clone(),))).collect();
        assert_eq!(first.get().unwrap(), 9);
        assert!(others.iter().all(|other| !other.ready()));
        flag.set(1);
        others.into_iter().for_each(|other| other.get().unwrap());
    });
}

#[test]
fn workers_are_replaced_after_their_number_of_tasks() {
    guarded(|| {
        for (workers, most, tasks) in [(1, 2, 6), (2, 2, 8), (2, 1, 5), (3, 10, 100)] {
            let pool = Pool::builder().workers(workers).max_tasks_per_child(most).build().unwrap();
            let results: Vec<_> = (0..tasks).map(|_| pool.apply_async(pid, ())).collect();
            let pids: Vec<u32> = results.into_iter().map(|result| result.get().unwrap()).collect();
            for one in &pids {
                let count = pids.iter().filter(|pid| *pid == one).count();
                assert!(count <= most as usize, "a worker ran {count} tasks of at most {most}");
            }
            let pids: BTreeSet<u32> = pids.into_iter().collect();
            assert!(pids.len() >= (tasks / most) as usize, "{} workers for {tasks} tasks", pids.len());
            pool.close();
            pool.join().unwrap();
        }
    });
}

#[test]
fn items_of_a_chunk_count_each() {
    guarded(|| {
        let pool = Pool::builder().workers(2).max_tasks_per_child(10).build().unwrap();
        let pids = pool.task(pid_of).chunk_size(64).map(0..100).unwrap();
        for one in &pids {
            assert!(pids.iter().filter(|pid| *pid == one).count() <= 10);
        }
    });
}

#[test]
fn a_pool_that_closes_early_runs_all_with_one_task_a_worker() {
    guarded(|| {
        let pool = Pool::builder().workers(3).max_tasks_per_child(1).build().unwrap();
        let results: Vec<_> = (0..6).map(|n| pool.apply_async(square, (n,))).collect();
        pool.close();
        pool.join().unwrap();
        assert!(results.into_iter().all(|result| result.get().is_ok()));
    });
}

#[test]
fn a_failing_task_does_not_stop_the_replacement_of_its_worker() {
    guarded(|| {
        let pool = Pool::builder().workers(1).max_tasks_per_child(1).build().unwrap();
        let results: Vec<_> = (0..5).map(|n| pool.apply_async(fail_odd, (n,))).collect();
        let ok = results.into_iter().map(|result| result.get().is_ok()).collect::<Vec<_>>();
        assert_eq!(ok, [true, false, true, false, true]);
        let last = pool.apply_async(fail_odd, (1,));
        drop(pool);
        assert!(last.get().is_err());
    });
}

fn fail_odd(n: u64) {
    assert!(n.is_multiple_of(2), "odd");
}

#[test]
fn zero_is_refused_where_one_is_the_least() {
    assert!(matches!(
        Pool::builder().max_tasks_per_child(0).build(),
        Err(PoolError::Zero("max_tasks_per_child"))
    ));
    assert!(matches!(Pool::builder().queue_limit(0).build(), Err(PoolError::Zero("queue_limit"))));
    assert!(matches!(Pool::builder().max_age(Duration::ZERO).build(), Err(PoolError::Zero(_))));
}

#[test]
fn workers_are_replaced_when_they_are_old() {
    guarded(|| {
        let pool = Pool::builder()
            .workers(1)
            .max_age(Duration::from_millis(30))
            .recycle_jitter(0.5)
            .build()
            .unwrap();
        let first = pool.apply(pid, ()).unwrap();
        until("the worker is replaced", || pool.apply(pid, ()).unwrap() != first);
        assert!(pool.stats().recycled >= 1);
    });
}

fn leak(bytes: usize) -> u32 {
    std::mem::forget(std::hint::black_box(vec![1_u8; bytes]));
    std::process::id()
}

#[test]
fn workers_are_replaced_when_they_are_large_and_not_in_steady_state() {
    guarded(|| {
        let pool = Pool::builder().workers(1).max_memory(256 << 20).build().unwrap();
        let first = pool.apply(leak, (0,)).unwrap();
        for _ in 0..50 {
            assert_eq!(pool.apply(leak, (0,)).unwrap(), first);
        }
        until("the worker is replaced", || pool.apply(leak, (100 << 20,)).unwrap() != first);
    });
}

#[test]
fn a_resize_starts_and_lets_go_and_interrupts_nothing() {
    guarded(|| {
        let pool = Pool::new(4).unwrap();
        let (flag, mut results) = (Value::new(0).unwrap(), Vec::new());
        let long = pool.apply_async(wait_for, (flag.clone(),));
        // Else it might begin when all else is done, and wait for ever for what was set before.
        until("it runs", || flag.get() == 1);
        for size in [12, 2, 1, 12, 6, 1, 8, 5] {
            results.extend((0..30).map(|n| pool.apply_async(square, (n,))));
            pool.resize(size).unwrap();
            assert_eq!(pool.workers(), size);
        }
        assert!(matches!(pool.resize(0), Err(PoolError::NoWorkers)));
        until("five workers are there", || pool.stats().workers == 5);
        assert!(results.into_iter().all(|result| result.get().is_ok()));
        flag.set(2);
        long.get().unwrap();
        until("the others have gone", || children() == 5);
        pool.close();
        pool.join().unwrap();
    });
}

/// How many workers this process has, whoever knows of them.
fn children() -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("it is mounted").flatten();
    let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let parent = |stat: String| {
        let (name, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(1).filter(|_| name.ends_with("(PoolWorker")).map(str::to_owned)
    };
    stats.filter_map(parent).filter(|parent| *parent == own).count()
}

#[test]
fn a_worker_comes_for_what_waits_behind_a_long_task() {
    guarded(|| {
        let pool = Pool::builder().workers(2).min_workers(0).build().unwrap();
        let flags = [Value::new(0_u32).unwrap(), Value::new(0_u32).unwrap()];
        let results: Vec<_> = flags
            .iter()
            .map(|flag| {
                let result = pool.apply_async(wait_for, (flag.clone(),));
                until("it runs, whatever else does", || flag.get() == 1);
                result
            })
            .collect();
        flags.iter().for_each(|flag| flag.set(2));
        let pids: BTreeSet<u32> = results.into_iter().map(|result| result.get().unwrap()).collect();
        assert_eq!(pids.len(), 2);
    });
}

#[test]
fn idle_workers_go_and_come_back_with_work() {
    guarded(|| {
        let pool = Pool::builder()
            .workers(3)
            .min_workers(0)
            .idle_timeout(Duration::from_millis(20))
            .build()
            .unwrap();
        assert_eq!(pool.stats().started, 0, "nothing starts before there is work");
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        until("the idle worker has gone", || pool.stats().workers == 0);
        assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
        let flags: Vec<_> = (0..3).map(|_| Value::new(0_u32).unwrap()).collect();
        let running: Vec<_> = flags.iter().map(|flag| pool.apply_async(wait_for, (flag.clone(),))).collect();
        until("three run at once", || flags.iter().all(|flag| flag.get() == 1));
        flags.iter().for_each(|flag| flag.set(2));
        let pids: BTreeSet<u32> = running.into_iter().map(|result| result.get().unwrap()).collect();
        assert_eq!(pids.len(), 3);
    });
}

#[test]
fn one_worker_serves_all_when_one_task_comes_after_the_other() {
    guarded(|| {
        let pool = Pool::builder().workers(4).min_workers(0).build().unwrap();
        for n in 0..20 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
        assert_eq!(pool.stats().started, 1);
    });
}

#[test]
fn a_higher_priority_starts_before_what_waits_at_the_worker() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let flag = Value::new(0).unwrap();
        let first = pool.apply_async(wait_for, (flag.clone(),));
        until("the first task runs", || flag.get() == 1);
        let order = Value::new(0).unwrap();
        let low: Vec<_> = (0..30).map(|_| pool.apply_async(next, (order.clone(),))).collect();
        let lowest = pool.task(next).priority(-1).apply_async((order.clone(),));
        let high = pool.task(next).priority(5).apply_async((order.clone(),));
        let highest = pool.task(next).priority(9).apply_async((order.clone(),));
        flag.set(2);
        first.get().unwrap();
        assert_eq!(highest.get().unwrap(), 1);
        assert_eq!(high.get().unwrap(), 2);
        assert_eq!(lowest.get().unwrap(), 33);
        let low: Vec<u32> = low.into_iter().map(|result| result.get().unwrap()).collect();
        assert_eq!(low, (3..33).collect::<Vec<u32>>(), "the order among equals is kept");
    });
}

fn next(order: Value<u32>) -> u32 {
    order.set(order.get() + 1);
    order.get()
}

fn worker_of(_: u64) -> (u32, usize) {
    (std::process::id(), mp_pool::worker_index().expect("a worker"))
}

#[test]
fn a_key_stays_with_one_worker_and_is_taken_over_after_its_death() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let ask = |key: u64| pool.task(worker_of).key(key).apply_async((key,));
        let first: Vec<_> = (0..20).map(|key| ask(key).get().unwrap()).collect();
        assert!(first.iter().collect::<BTreeSet<_>>().len() > 1, "all keys at one worker");
        for (key, home) in (0..20).cycle().zip(first.iter().cycle()).take(200) {
            assert_eq!(ask(key).get().unwrap(), *home);
        }
        let _ = pool.task(die).key(0_u64).apply(());
        let (pid, worker) = ask(0).get().unwrap();
        assert!(pid != first[0].0 && worker == first[0].1);
    });
}

fn die() {
    std::process::abort();
}

fn remember(step: u64) -> u64 {
    mp_pool::with_state(|sum: &Cell<u64>| {
        sum.set(sum.get() + step);
        sum.get()
    })
}

#[test]
fn a_worker_keeps_its_state_between_tasks() {
    guarded(|| {
        let pool = Pool::builder().workers(1).initializer(set_sum, (100,)).build().unwrap();
        assert_eq!(pool.apply(remember, (1,)).unwrap(), 101);
        assert_eq!(pool.apply(remember, (2,)).unwrap(), 103);
        assert!(pool.apply(die, ()).is_err());
        assert_eq!(pool.apply(remember, (1,)).unwrap(), 101, "a new worker begins anew");
    });
}

fn set_sum(sum: u64) {
    mp_pool::set_state(Cell::new(sum));
}

#[test]
fn a_broadcast_runs_once_in_each_worker() {
    guarded(|| {
        let pool = Pool::new(4).unwrap();
        let pids: BTreeSet<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
        assert_eq!(pids.len(), 4);
        pool.close();
        assert!(pool.broadcast(pid, &()).iter().all(|result| matches!(result, Err(TaskError::Closed))));
    });
}

fn sleep(milliseconds: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

#[test]
fn results_come_as_they_are_completed() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let flag = Value::new(0).unwrap();
        let slow = pool.apply_async(wait_for, (flag.clone(),));
        until("the slow one runs", || flag.get() == 1);
        let results = [slow, pool.apply_async(pid, ())];
        let mut completed = as_completed(results);
        assert_eq!(completed.next().unwrap().0, 1);
        assert!(completed.next_timeout(Duration::from_millis(5)).is_none());
        assert_eq!(completed.len(), 1);
        flag.set(2);
        assert_eq!(completed.next().unwrap().0, 0);
        assert!(completed.next().is_none());
        assert_eq!(as_completed((0..20).map(|_| pool.apply_async(sleep, (1,)))).count(), 20);
    });
}

fn nest(depth: u32) -> Result<u32, String> {
    if depth == 0 {
        return Ok(0);
    }
    let pool = Pool::builder().workers(1).max_depth(3).build().map_err(|error| error.to_string())?;
    let deeper = pool.apply(nest, (depth - 1,)).map_err(|error| error.to_string())??;
    Ok(deeper + 1)
}

#[test]
fn pools_nest_down_to_a_limit() {
    guarded(|| {
        assert_eq!(nest(3), Ok(3));
        let error = nest(4).unwrap_err();
        assert!(error.contains("nested 3 deep"), "{error}");
    });
}

/// The worker has been asked to ring only once it has worked for a while, and that while does not end. How many tasks it is asked to end
/// first is not for a test to know.
#[test]
fn what_ran_before_a_long_task_is_told_while_that_runs() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let short = |count| (0..count).map(|_| pool.apply_async(sleep, (1,))).collect::<Vec<_>>();
        for count in 8..12 {
            let flag = Value::new(0).unwrap();
            // So it is known how long tasks take.
            assert!(short(40).into_iter().all(|result| result.get().is_ok()));
            let before = short(count);
            let long = pool.apply_async(wait_for, (flag.clone(),));
            let behind = short(30);
            assert!(before.into_iter().all(|result| result.get().is_ok()));
            until("the long one runs", || flag.get() == 1);
            assert!(!long.ready());
            flag.set(2);
            long.get().unwrap();
            assert!(behind.into_iter().all(|result| result.get().is_ok()));
        }
    });
}

#[test]
fn a_limited_queue_blocks_or_says_full_and_lets_go_at_the_end() {
    guarded(|| {
        let pool = Pool::builder().workers(1).queue_limit(2).build().unwrap();
        let flag = Value::new(0).unwrap();
        let first = pool.apply_async(wait_for, (flag.clone(),));
        until("the first task runs", || flag.get() == 1);
        let second = pool.task(square).try_apply_async((2,)).unwrap();
        let full = pool.task(square).try_apply_async((3,)).unwrap_err();
        assert_eq!(full.into_inner(), (3,));
        thread::scope(|scope| {
            let third = scope.spawn(|| pool.apply(square, (3,)));
            flag.set(2);
            first.get().unwrap();
            assert_eq!(second.get().unwrap(), 4);
            assert_eq!(third.join().unwrap().unwrap(), 9);
        });
        // A map larger than the queue goes through it.
        assert_eq!(pool.task(square).chunk_size(10).map(0..100).unwrap().len(), 100);
        // Who waits for room is let go when the pool ends.
        let hold: Vec<_> = (0..2).map(|_| pool.apply_async(sleep, (3_600_000,))).collect();
        thread::scope(|scope| {
            let blocked = scope.spawn(|| pool.apply(square, (3,)));
            pool.terminate();
            assert!(blocked.join().unwrap().is_err());
        });
        assert!(hold.into_iter().all(|result| matches!(result.get(), Err(TaskError::Cancelled))));
    });
}

#[test]
fn a_queue_limited_by_bytes_takes_a_large_task_alone() {
    guarded(|| {
        let pool = Pool::builder().workers(1).queue_bytes(1000).build().unwrap();
        let long = "x".repeat(5000);
        assert_eq!(pool.apply(length, (long.clone(),)).unwrap(), 5000);
        let results: Vec<_> = (0..20).map(|_| pool.apply_async(length, (long.clone(),))).collect();
        assert!(results.into_iter().all(|result| result.get().unwrap() == 5000));
    });
}

fn length(text: String) -> usize {
    text.len()
}

#[test]
fn an_inline_pool_runs_tasks_here_and_now() {
    guarded(|| {
        let pool = Pool::builder().inline().build().unwrap();
        assert_eq!(pool.apply(pid, ()).unwrap(), std::process::id());
        let result = pool.apply_async(square, (5,));
        assert!(result.ready());
        assert_eq!(result.get().unwrap(), 25);
        assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
        assert!(matches!(pool.apply(fail_odd, (1,)), Err(TaskError::Panicked(_))));
        assert_eq!(pool.imap(square, 0..3).map(Result::unwrap).sum::<u64>(), 5);
        let flag = Value::new(7_u32).unwrap();
        assert_eq!(pool.apply(read, (flag,)).unwrap(), 7);
        pool.close();
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Closed)));
        pool.join().unwrap();
    });
}

fn read(value: Value<u32>) -> u32 {
    value.get()
}

#[test]
fn statistics_tell_counts_and_times() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        pool.map(sleep, [1; 20]).unwrap();
        assert!(pool.apply(die, ()).is_err());
        let stats = pool.stats();
        assert_eq!((stats.succeeded, stats.failed, stats.queued, stats.at_workers), (20, 1, 0, 0));
        assert_eq!((stats.run.count(), stats.wait.count()), (21, 21));
        assert!(stats.run.quantile(0.5) >= Duration::from_millis(1), "{:?}", stats.run);
        assert!(stats.wait.quantile(1.0) >= Duration::from_millis(1), "{:?}", stats.wait);
        assert!(
            stats.deaths.iter().any(|(cause, count)| cause.contains("SIGABRT") && *count == 1),
            "{stats:?}"
        );
        until("the dead worker is replaced", || pool.stats().started == 3);
    });
}

/// The number behind a key of a trace's line.
fn number(line: &str, key: &str) -> f64 {
    let (_, behind) = line.split_once(&format!("\"{key}\":")).expect(key);
    behind.split([',', '}']).next().and_then(|number| number.parse().ok()).expect(key)
}

#[test]
fn a_trace_tells_who_ran_what_when() {
    guarded(|| {
        let path = std::env::temp_dir().join(format!("mp-pool-trace-{}.json", std::process::id()));
        let pool = Pool::builder().workers(2).trace_file(&path).build().unwrap();
        pool.map(square, 0..10).unwrap();
        assert!(pool.apply(fail_odd, (1,)).is_err());
        let slept = [pool.apply(sleep, (5,)).unwrap(), pool.apply(sleep, (5,)).unwrap()];
        let pids: BTreeSet<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
        pool.close();
        pool.join().unwrap();
        let trace = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(trace.matches("\"ph\":\"X\"").count(), 11 + slept.len() + pids.len(), "{trace}");
        let ran: Vec<&str> = trace.lines().filter(|line| line.contains("\"ph\":\"X\"")).collect();
        assert!(
            ran.iter().all(|line| pids.iter().any(|pid| f64::from(*pid) == number(line, "tid"))),
            "{trace}"
        );
        let sleeps: Vec<&&str> = ran.iter().filter(|line| line.contains("sleep")).collect();
        assert!(sleeps.iter().all(|line| number(line, "dur") >= 5000.0), "{trace}");
        // One after the other, in microseconds.
        let [first, second] = [0, 1].map(|at| number(sleeps[at], "ts"));
        assert!(first + 5000.0 <= second, "{trace}");
        assert_eq!(trace.matches("\"thread_name\"").count(), 2);
        assert!(trace.starts_with("[\n{") && trace.trim_end().ends_with("}\n]") && trace.contains("square"));
        assert!(trace.contains("panicked at"), "{trace}");
    });
}
