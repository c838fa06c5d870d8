//! Tasks that outlive their workers: one worker crashes in the middle of its task, another one does it, and `join` returns when all are
//! done.

use multiprocess::queue::{JoinableQueue, OnDeath};
use multiprocess::{Array, Process, RemoteError};

/// Squares numbers until the queue is closed. The first time that somebody gets seven, he dies of it.
fn work(tasks: JoinableQueue<usize>, squares: Array<u64>) -> Result<(), RemoteError> {
    loop {
        let (number, claim) = match tasks.claim() {
            Err(error) if error.is_closed() => return Ok(()),
            other => other?,
        };
        if number == 7 && claim.deliveries() == 1 {
            // Not even a destructor runs.
            std::process::abort();
        }
        squares.at(number).set(number as u64 * number as u64);
        claim.done()?;
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    // A task that kills three workers is given up.
    let tasks = JoinableQueue::with_policy(None, OnDeath::RedeliverAtMost(2))?;
    let squares = Array::<u64>::new(20)?;
    let workers = (0..3)
        .map(|_| Process::spawn(work, (tasks.clone(), squares.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    tasks.put_many(0..20)?;
    tasks.join()?;
    println!("all done, {} lost: the square of seven is {}", tasks.lost(), squares.at(7).get());
    assert!((0..20).all(|n| squares.at(n).get() == n as u64 * n as u64));
    tasks.close()?;
    let crashed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
    println!("{crashed} worker crashed");
    assert_eq!((crashed, tasks.lost()), (1, 0));
    Ok(())
}
