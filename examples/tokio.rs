//! Processes in a program with an async runtime: `init()` comes first, then the runtime.
//!
//! `#[tokio::main]` would build the runtime before the first line of `main`: its threads would be there in every child before
//! `init()` takes over, and starting a process would be an error that says so. Without the attribute it is one line more.

use multiprocess::Process;
use std::error::Error;
use std::time::Duration;

/// What takes long, or may crash: it is no business of the runtime's threads.
fn collatz(mut n: u64) -> u32 {
    let mut steps = 0;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn sleep_for_ever() {
    loop {
        std::thread::park();
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    // Awaited in tasks, side by side with whatever else the runtime does.
    let tasks: Vec<_> = [27, 97, 871]
        .into_iter()
        .map(|n| tokio::spawn(async move { Process::spawn(collatz, (n,)).map(|process| (n, process)) }))
        .collect();
    for task in tasks {
        let (n, process) = task.await??;
        println!("{n} takes {} steps", process.await?);
    }

    // A deadline: `wait_async` borrows the handle, so giving up keeps it.
    let process = Process::spawn(sleep_for_ever, ())?;
    if tokio::time::timeout(Duration::from_millis(50), process.wait_async()).await.is_err() {
        process.kill()?;
    }
    if let Err(error) = process.await {
        println!("the last one: {error}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run())
}
