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

fn until_idle(pool: &Pool) {
    mp_test::until("the pool is idle", || {
        let stats = pool.stats();
        stats.queued == 0 && stats.at_workers == 0
    });
}

/// All faults at random for as long as `MP_STRESS_SECONDS` says, with flat memory, descriptors and threads.
#[test]
#[ignore = "a soak test"]
fn soak() {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    guarded(|| {
        let pool = Pool::builder()
            .workers(4)
            .grace(Duration::from_millis(5))
            .max_tasks_per_child(200)
            .recycle_jitter(0.3)
            .build()
            .unwrap();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let (mut first, mut rounds) = (None, 0_u64);
        while Instant::now() < until {
            let _ = under(Signal::KILL, usize::MAX, || {
                let task = || pool.task(nap).timeout(Duration::from_millis(20)).retry(Retry::times(1));
                let results: Vec<_> = (0..300).map(|n| task().apply_async((n % 25,))).collect();
                let map = pool.map_async(square, 0..10_000);
                results.iter().step_by(7).for_each(|result| {
                    let _ = result.cancel();
                });
                results.into_iter().for_each(|result| drop(result.get()));
                drop(map.get());
            });
            until_idle(&pool);
            rounds += 1;
            // What is loaded and warmed up in the first rounds stays.
            let now = (resident(), entries("/proc/self/fd"), entries("/proc/self/task"));
            let first = *first.get_or_insert(now);
            if rounds > 10 {
                assert!(now.0 < first.0 * 2 + (32 << 20), "memory grew from {} to {}", first.0, now.0);
                assert!(now.1 < first.1 + 40, "descriptors grew from {} to {}", first.1, now.1);
                assert!(now.2 < first.2 + 12, "threads grew from {} to {}", first.2, now.2);
            }
        }
        serves_a_thousand(&pool);
    });
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("proc").count()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc");
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}
