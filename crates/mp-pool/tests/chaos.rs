//! Pools whose workers are killed and stopped all the time. The long ones are ignored by default: `cargo xtask stress`.

use mp_pool::{Cause, Pool, Retry, TaskError};
use rustix::process::{Pid, Signal, kill_process};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn pid() -> u32 {
    std::process::id()
}

fn echo(n: u32, text: String) -> (u32, String) {
    thread::sleep(Duration::from_millis(1));
    (n, text)
}

/// 200 KB.
fn text() -> String {
    "0123456789".repeat(20_000)
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // Fails when it has ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// The workers: children by that name, so never a fork server.
fn workers() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect::<Vec<_>>().join(" ");
    let is_worker = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("PoolWorker"))
    };
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_worker).collect()
}

/// Runs `body` while some worker gets `signal` every 30 ms, at most so many; gives what it returns and how many signals were sent.
fn under<R>(signal: Signal, most: usize, body: impl FnOnce() -> R) -> (R, usize) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_usize;
            while !done.load(Relaxed) {
                thread::sleep(Duration::from_millis(30));
                let workers = workers();
                if sent < most
                    && let Some(victim) = workers.get(sent * 7 % workers.len().max(1))
                {
                    send(*victim, signal);
                    sent += 1;
                }
            }
            sent
        });
        let result = body();
        done.store(true, Relaxed);
        (result, sender.join().expect("the killer"))
    })
}

fn serves_a_thousand(pool: &Pool) {
    let results: Vec<_> = (0..1000).map(|n| pool.apply_async(square, (n,))).collect();
    assert!((0..1000).zip(results).all(|(n, result)| result.get().is_ok_and(|value| value == n * n)));
}

#[test]
fn with_tries_all_of_1500_tasks_are_right() {
    guarded(|| {
        let pool = Pool::builder().workers(4).retry(Retry::times(50)).build().unwrap();
        let text = text();
        let (right, kills) = under(Signal::KILL, usize::MAX, || {
            let results: Vec<_> = (0..1500).map(|n| pool.apply_async(echo, (n, text.clone()))).collect();
            let is_right = |(n, result): (u32, mp_pool::AsyncResult<(u32, String)>)| {
                let (number, echoed) = result.get().unwrap();
                number == n && echoed == text
            };
            (0..1500).zip(results).filter_map(|pair| is_right(pair).then_some(())).count()
        });
        assert_eq!(right, 1500);
        assert!(kills > 0);
        serves_a_thousand(&pool);
    });
}

#[test]
fn without_tries_each_kill_costs_one_task_at_most() {
    guarded(|| {
        let pool = Pool::new(4).unwrap();
        let text = text();
        let (died, kills) = under(Signal::KILL, usize::MAX, || {
            let results: Vec<_> = (0..1500).map(|n| pool.apply_async(echo, (n, text.clone()))).collect();
            let mut died = 0;
            for (n, result) in (0..1500).zip(results) {
                match result.get() {
                    Ok((number, echoed)) => assert!(number == n && echoed == text),
                    Err(TaskError::WorkerDied { cause: Cause::Signal { number: 9, .. }, .. }) => died += 1,
                    other => panic!("task {n}: {:?}", other.map(|(n, _)| n)),
                }
            }
            died
        });
        assert!(died <= kills, "{died} tasks ended with {kills} kills");
        serves_a_thousand(&pool);
    });
}

#[test]
fn stopped_workers_cost_their_tasks_a_timeout() {
    guarded(|| {
        let pool = Pool::builder()
            .workers(4)
            .task_timeout(Duration::from_millis(200))
            .start_timeout(Duration::from_secs(2))
            .grace(Duration::ZERO)
            .retry(Retry::times(50).after_timeouts())
            .build()
            .unwrap();
        let text = text();
        let (right, stops) = under(Signal::STOP, 12, || {
            let results: Vec<_> = (0..1500).map(|n| pool.apply_async(echo, (n, text.clone()))).collect();
            (0..1500)
                .zip(results)
                .filter_map(|(n, result)| (result.get().unwrap().0 == n).then_some(()))
                .count()
        });
        assert_eq!(right, 1500);
        assert!(stops > 0);
        // Those that were stopped while idle are found when they do not begin.
        workers().into_iter().for_each(|worker| send(worker, Signal::CONT));
        serves_a_thousand(&pool);
    });
}

#[test]
fn workers_that_kill_each_other_stop_nobody() {
    guarded(|| {
        for workers in [1, 2, 5, 13] {
            let pool = Pool::new(workers).unwrap();
            let pids: Vec<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
            let results: Vec<_> = pids.iter().map(|pid| pool.apply_async(kill, (*pid,))).collect();
            results.iter().for_each(mp_pool::AsyncResult::wait);
            drop(results);
            serves_a_thousand(&pool);
            pool.close();
            pool.join().unwrap();
        }
    });
}

fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

#[test]
fn a_pool_ends_while_its_workers_are_killed() {
    guarded(|| {
        for round in 0..10 {
            let pool = Pool::new(3).unwrap();
            let results: Vec<_> = (0..30).map(|n| pool.apply_async(square, (n,))).collect();
            workers().into_iter().for_each(|worker| send(worker, Signal::KILL));
            if round % 2 == 0 {
                pool.close();
            } else {
                pool.terminate();
            }
            pool.join().unwrap();
            assert!(results.iter().all(mp_pool::AsyncResult::ready));
        }
    });
}

#[test]
fn each_task_settles_once_when_all_happens_at_once() {
    guarded(|| {
        let pool = Pool::builder().workers(3).grace(Duration::ZERO).build().unwrap();
        let (counts, _) = under(Signal::KILL, usize::MAX, || {
            let task =
                || pool.task(nap).timeout(Duration::from_millis(6)).queue_timeout(Duration::from_millis(100));
            let results: Vec<_> = (0..500).map(|n| task().apply_async((n % 12,))).collect();
            results.iter().step_by(3).for_each(|result| {
                let _ = result.cancel();
            });
            let results: Vec<_> = results.into_iter().map(|result| result.get().is_ok()).collect();
            (results.len(), results.iter().filter(|ok| **ok).count())
        });
        assert_eq!(counts.0, 500);
        until_idle(&pool);
        serves_a_thousand(&pool);
    });
}

fn nap(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

#[test]
fn workers_that_are_killed_while_the_pool_grows_and_shrinks_stop_nobody() {
    guarded(|| {
        let pool = Pool::builder().workers(4).retry(Retry::times(50)).build().unwrap();
        let (_, kills) = under(Signal::KILL, usize::MAX, || {
            for size in [12, 2, 1, 12, 6, 1, 8, 5].into_iter().cycle().take(40) {
                let results: Vec<_> = (0..30).map(|n| pool.apply_async(echo, (n, "text".into()))).collect();
                pool.resize(size).unwrap();
                assert!((0..30).zip(results).all(|(n, result)| result.get().unwrap().0 == n));
            }
        });
        assert!(kills > 0);
        serves_a_thousand(&pool);
        assert_eq!(pool.workers(), 5);
    });
}

fn until_idle(pool: &Pool) {
    mp_test::until("the pool is idle", || {
        let stats = pool.stats();
        stats.queued == 0 && stats.at_workers == 0
    });
}

/// A task that returns, panics, exits, aborts, stops itself or takes too long, by its number.
#[expect(clippy::disallowed_methods, reason = "tasks that exit")]
fn misbehave(n: u64) -> u64 {
    match n % 23 {
        3 => panic!("panics"),
        7 => std::process::exit(4),
        11 => std::process::abort(),
        15 => send(std::process::id(), Signal::STOP),
        19 => nap(3_600_000),
        _ => nap(n % 4),
    }
    n
}

/// All faults at random for as long as `MP_STRESS_SECONDS` says (kills, stops, panics, exits, aborts, time-outs, cancelled tasks, sizes
/// that change), with flat memory, descriptors and threads.
#[test]
#[ignore = "a soak test"]
fn soak() {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    guarded(|| {
        let pool = Pool::builder()
            .workers(4)
            .grace(Duration::from_millis(5))
            .start_timeout(Duration::from_secs(5))
            .max_tasks_per_child(200)
            .recycle_jitter(0.3)
            .build()
            .unwrap();
        // Half of the time for each way to start.
        let until = Instant::now() + Duration::from_secs_f64(seconds / 2.0);
        let (mut first, mut rounds, mut last, mut most) = (None, 0_u64, (0, 0, 0), (0, 0, 0));
        while Instant::now() < until {
            let (signal, most_sent) =
                if rounds % 4 == 3 { (Signal::STOP, 12) } else { (Signal::KILL, usize::MAX) };
            let _ = under(signal, most_sent, || a_round(&pool, rounds));
            // One that was stopped while idle is found by what has a time-out alone.
            workers().into_iter().for_each(|worker| send(worker, Signal::CONT));
            until_idle(&pool);
            rounds += 1;
            last = (resident(), entries("/proc/self/fd"), entries("/proc/self/task"));
            most = (last.0.max(most.0), last.1.max(most.1), last.2.max(most.2));
            // What is loaded and warmed up in the first rounds stays.
            let first = *first.get_or_insert(last);
            if rounds > 10 {
                assert!(last.0 < first.0 * 2 + (32 << 20), "memory grew from {} to {}", first.0, last.0);
                assert!(last.1 < first.1 + 40, "descriptors grew from {} to {}", first.1, last.1);
                assert!(last.2 < first.2 + 12, "threads grew from {} to {}", first.2, last.2);
            }
        }
        serves_a_thousand(&pool);
        let stats = pool.stats();
        println!(
            "{rounds} rounds, {} tasks returned, {} failed, {} tried again; {} workers started, deaths {:?}",
            stats.succeeded, stats.failed, stats.retried, stats.started, stats.deaths
        );
        println!("bytes, descriptors, threads: first {first:?}, last {last:?}, most {most:?}");
    });
}

fn a_round(pool: &Pool, round: u64) {
    pool.resize(usize::try_from(2 + round * 5 % 7).unwrap_or(4)).expect("a size");
    let task = || pool.task(misbehave).timeout(Duration::from_millis(50)).retry(Retry::times(1));
    let results: Vec<_> = (0..300).map(|n| task().apply_async((n * 7 + round,))).collect();
    let map = pool.task(square).timeout(Duration::from_millis(200)).map_async(0..10_000);
    pool.resize(4).expect("a size");
    results.iter().step_by(7).for_each(|result| {
        let _ = result.cancel();
    });
    let (kept, dropped): (Vec<_>, Vec<_>) = results.into_iter().enumerate().partition(|(n, _)| n % 5 > 0);
    drop(dropped);
    kept.into_iter().for_each(|(_, result)| drop(result.get()));
    drop(map.get());
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("proc").count()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc");
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}
