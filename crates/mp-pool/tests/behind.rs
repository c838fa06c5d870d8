//! What stands behind results that nobody has read yet: a cancel, a death, and tasks that are bound to a worker.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pool::{Pool, TaskError};
use mp_shm::Value;
use mp_test::{guarded, until};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::thread;
use std::time::{Duration, Instant};

mp_pool::enable_test_support!();

fn busy(micros: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
    micros
}

fn wait_for_ever(flag: Value<u32>) {
    flag.set(1);
    loop {
        thread::park();
    }
}

/// The task that is cancelled runs, and those before it have ended without anybody having read so.
#[test]
fn a_cancel_reaches_what_runs_behind_results_that_are_not_read() {
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::from_millis(20)).build().unwrap();
        for before in 0..20 {
            let short = |count: u64| (0..count).map(|_| pool.apply_async(busy, (250,))).collect::<Vec<_>>();
            assert!(short(40).into_iter().all(|result| result.get().is_ok()));
            let flag = Value::new(0).unwrap();
            let done = short(before);
            let long = pool.apply_async(wait_for_ever, (flag.clone(),));
            let behind = short(30);
            until("it runs", || flag.get() == 1);
            long.cancel();
            assert!(matches!(long.get(), Err(TaskError::Cancelled)), "behind {before}");
            assert!(done.into_iter().chain(behind).all(|result| result.get().is_ok()));
        }
    });
}

struct Never;

impl Serialize for Never {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Never, D::Error> {
        Ok(Never)
    }
}

/// Its result goes alone, as any that cannot be encoded does; the last of a chunk is not sent at all.
fn unsendable(n: u64) -> Never {
    if n % 200 == 199 {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    Never
}

#[test]
fn all_that_was_sent_before_a_death_is_there() {
    guarded(|| {
        for _ in 0..8 {
            let pool = Pool::new(2).unwrap();
            let results = pool.task(unsendable).chunk_size(200).try_map(0..400);
            let died =
                |result: &Result<Never, TaskError>| matches!(result, Err(TaskError::WorkerDied { .. }));
            let sent = |result: &&Result<Never, TaskError>| matches!(result, Err(TaskError::Unencodable(_)));
            assert_eq!(results.iter().filter(sent).count(), 398);
            assert!(died(&results[199]) && died(&results[399]));
        }
    });
}

/// As many tasks wait at each worker as it may have. One with a key goes behind those, not behind the whole queue.
#[test]
fn a_task_with_a_key_does_not_starve_behind_everybody_s() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let all: Vec<_> = (0..12_000).map(|_| pool.apply_async(busy, (250,))).collect();
        let done = || all.iter().filter(|result| result.ready()).count();
        until("some are done", || done() > 100);
        let before = done();
        pool.task(busy).key(7).apply((1,)).unwrap();
        // Those at both workers, twice over, and what a busy machine lets the other one do meanwhile.
        let first = done() - before;
        assert!(first < 1_000, "{first} went first");
        pool.terminate();
    });
}
