//! A child puts, the parent gets.

use crate::Told;
use multiprocess::{Process, Queue};

fn task(queue: Queue<String>) {
    queue.put("obj".to_owned()).expect("the parent holds the queue");
}

/// What the child put.
///
/// # Errors
///
/// When a process cannot be started, or the queue fails.
pub fn run() -> Told {
    let queue = Queue::bounded(666)?;
    let process = Process::spawn(task, (queue.clone(),))?;
    let got = queue.get()?;
    println!("{got}");
    process.join()?;
    Ok(vec![got])
}
