//! Two processes add to one number without a lock: additions get lost.

use crate::Told;
use multiprocess::lock::Barrier;
use multiprocess::{Process, RemoteError, Value};
use std::thread;
use std::time::Duration;

/// How many rounds are run to meet the race.
pub const ROUNDS: usize = 100;

fn job(value: Value<i32>, step: i32) {
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(100)); // time in which the other process gets at the number
        value.set(value.get() + step);
    }
}

fn rounds(value: Value<i32>, step: i32, start: Barrier, end: Barrier) -> Result<(), RemoteError> {
    for _ in 0..ROUNDS {
        start.wait()?;
        for _ in 0..5 {
            let seen = value.get();
            thread::yield_now(); // the other process may run here
            value.set(seen + step);
        }
        end.wait()?;
    }
    Ok(())
}

/// The result of the program as it stands, and in how many of the rounds the result was not 20.
///
/// # Errors
///
/// When a process cannot be started, or no round was wrong.
pub fn run() -> Told {
    let value = Value::new(0)?;
    let one = Process::spawn(job, (value.clone(), 1))?;
    let three = Process::spawn(job, (value.clone(), 3))?;
    one.join()?;
    three.join()?;
    println!("without a lock: {} (20, if nothing was lost)", value.get());
    let first = value.get();

    let (start, end) = (Barrier::new(3)?, Barrier::new(3)?);
    let workers =
        [1, 3].map(|step| Process::spawn(rounds, (value.clone(), step, start.clone(), end.clone())));
    let mut wrong = 0;
    for _ in 0..ROUNDS {
        value.set(0);
        start.wait()?;
        end.wait()?;
        wrong += usize::from(value.get() != 20);
    }
    for worker in workers {
        worker?.join()??;
    }
    println!("{ROUNDS} rounds, both processes released at once: {wrong} did not end with 20");
    if wrong == 0 {
        return Err("no addition was lost: the race was not met".into());
    }
    Ok(vec![first.to_string(), wrong.to_string()])
}
