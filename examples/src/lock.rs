//! The race, mended by a lock: the result is 20, each time.

use crate::Told;
use crate::race::ROUNDS;
use multiprocess::lock::Barrier;
use multiprocess::{Lock, Process, RemoteError, Value};
use std::thread;
use std::time::Duration;

fn job(value: Value<i32>, step: i32, lock: Lock) -> Result<(), RemoteError> {
    let guard = lock.acquire()?;
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(100)); // the other process cannot get at the number now
        value.set(value.get() + step);
    }
    guard.release();
    Ok(())
}

fn rounds(value: Value<i32>, step: i32, lock: Lock, start: Barrier, end: Barrier) -> Result<(), RemoteError> {
    for _ in 0..ROUNDS {
        start.wait()?;
        let guard = lock.acquire()?;
        for _ in 0..5 {
            let seen = value.get();
            thread::yield_now();
            value.set(seen + step);
        }
        guard.release();
        end.wait()?;
    }
    Ok(())
}

/// The result of the program as it stands, and in how many of the rounds the result was 20.
///
/// # Errors
///
/// When a process cannot be started.
pub fn run() -> Told {
    let (value, lock) = (Value::new(0)?, Lock::new()?);
    let one = Process::spawn(job, (value.clone(), 1, lock.clone()))?;
    let three = Process::spawn(job, (value.clone(), 3, lock.clone()))?;
    one.join()??;
    three.join()??;
    println!("with a lock: {}", value.get());
    let first = value.get();

    let (start, end) = (Barrier::new(3)?, Barrier::new(3)?);
    let args = |step| (value.clone(), step, lock.clone(), start.clone(), end.clone());
    let workers = [1, 3].map(|step| Process::spawn(rounds, args(step)));
    let mut right = 0;
    for _ in 0..ROUNDS {
        value.set(0);
        start.wait()?;
        end.wait()?;
        right += usize::from(value.get() == 20);
    }
    for worker in workers {
        worker?.join()??;
    }
    println!("{ROUNDS} rounds: {right} ended with 20");
    Ok(vec![first.to_string(), right.to_string()])
}
