//! Thirty-two tasks for sixteen processes.

use crate::Told;
use multiprocess::Pool;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// What one task reports: its number, and the process that ran it.
fn example_function(name: u32) -> (u32, u32) {
    println!("child process {name} starts");
    // The seed sleeps one to three seconds, so as not to ask a server too often; tenths of that will do here.
    thread::sleep(Duration::from_millis(100 * u64::from(name % 3 + 1)));
    println!("child process {name} ends");
    (name, std::process::id())
}

fn nap() {
    thread::sleep(Duration::from_millis(50));
}

/// How many tasks were done, in how many processes, what a callback heard, and that `join` before `close` is an error.
///
/// # Errors
///
/// When the pool fails.
pub fn run() -> Told {
    println!("parent process starts");
    let pool = Pool::new(16)?;
    let results: Vec<_> = (0..32).map(|n| pool.apply_async(example_function, (n,))).collect();

    // Asynchronous: the call returns at once, and the result comes to a callback.
    let (sender, receiver) = mpsc::channel();
    let failed = sender.clone();
    pool.apply_async_with(
        example_function,
        (32,),
        move |(name, _)| drop(sender.send(format!("callback: task {name} is done"))),
        move |error| drop(failed.send(error.to_string())),
    );

    let pool = match pool.join() {
        Ok(_) => return Err("an open pool was joined".into()),
        Err(error) => {
            println!("join without close: {error}");
            error.0
        }
    };
    let mut pids = BTreeSet::new();
    let mut done = 0;
    for result in results {
        pids.insert(result.get()?.1);
        done += 1;
    }
    let heard = receiver.recv()?;
    println!("{heard}");

    // Synchronous: each call waits for its result, so the processes take turns and the pool is of no use.
    let start = Instant::now();
    for _ in 0..8 {
        pool.apply(nap, ())?;
    }
    let one_by_one = start.elapsed();
    let start = Instant::now();
    let results: Vec<_> = (0..8).map(|_| pool.apply_async(nap, ())).collect();
    results.into_iter().try_for_each(|result| result.get())?;
    let at_once = start.elapsed();
    println!("eight naps of 50 ms: apply one by one {one_by_one:.2?}, apply_async {at_once:.2?}");

    pool.close();
    pool.join()?;
    println!("parent process ends");
    let faster = if at_once < one_by_one { "apply_async is faster" } else { "apply_async is slower" };
    Ok(vec![format!("{done} tasks"), format!("{} processes", pids.len()), heard, faster.into()])
}
