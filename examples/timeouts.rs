//! Time-outs of every kind, and what comes of each: for the run, for the wait, for the whole; and cancelling.

use multiprocess::Pool;
use multiprocess::pool::{Retry, TaskError, cancelled};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

fn work(milliseconds: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

/// Long, but it looks whether it is still wanted.
fn polite() -> u64 {
    for step in 0.. {
        if cancelled() {
            return step;
        }
        thread::sleep(Duration::from_millis(1));
    }
    0
}

/// Says what came, and remembers what should not have.
fn expect(what: &str, result: &Result<u64, TaskError>, right: bool, wrong: &mut Vec<String>) {
    match result {
        Ok(value) => println!("{what}: returned {value}"),
        Err(error) => println!("{what}: {error}"),
    }
    if !right {
        wrong.push(what.to_owned());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let pool = Pool::builder().workers(1).grace(Duration::from_millis(50)).build()?;
    let mut wrong = Vec::new();

    let result = pool.task(work).timeout(Duration::from_millis(100)).apply((600_000,));
    expect("runs too long", &result, matches!(result, Err(TaskError::TimedOut)), &mut wrong);

    let long = pool.apply_async(work, (300,));
    let result = pool.task(work).queue_timeout(Duration::from_millis(100)).apply((1,));
    expect("waits too long", &result, matches!(result, Err(TaskError::QueueTimedOut)), &mut wrong);
    let result = long.get();
    expect("what was in its way", &result, matches!(result, Ok(300)), &mut wrong);

    let deadline = Instant::now() + Duration::from_millis(200);
    let results = pool.task(work).deadline(deadline).try_map([1, 1, 600_000, 1]);
    let done = results.iter().filter(|result| result.is_ok()).count();
    println!("a map with a deadline: {done} of {} were done by then", results.len());
    if done > 3 {
        wrong.push("a map with a deadline".to_owned());
    }

    let result = pool.apply_async(polite, ());
    thread::sleep(Duration::from_millis(20));
    result.cancel();
    let result = result.get();
    expect("stops when asked", &result, matches!(result, Err(TaskError::Cancelled)), &mut wrong);

    let result = pool.apply_async(work, (600_000,));
    result.cancel();
    let result = result.get();
    expect("is stopped", &result, matches!(result, Err(TaskError::Cancelled)), &mut wrong);

    let retry = Retry::times(2).backoff(Duration::from_millis(10)).after_timeouts();
    let result = pool.task(work).timeout(Duration::from_millis(30)).retry(retry).apply((600_000,));
    expect("never in time", &result, matches!(result, Err(TaskError::Poison { .. })), &mut wrong);

    match pool.apply_async(work, (100,)).get_timeout(Duration::from_millis(10)) {
        Ok(_) => wrong.push("waiting for a moment".to_owned()),
        Err(goes_on) => println!("waiting for a moment: it goes on, and returned {}", goes_on.get()?),
    }
    pool.close();
    pool.join()?;
    if wrong.is_empty() { Ok(()) } else { Err(format!("told wrong: {wrong:?}").into()) }
}
