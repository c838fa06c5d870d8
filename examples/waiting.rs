//! One of many: `wait`, plain `poll`, and tokio, over ends that other processes feed.

#![expect(unsafe_code, reason = "tokio wants to be told that a descriptor stays the same")]

use multiprocess::lock::Event;
use multiprocess::pipe::{Connection, wait};
use multiprocess::{Process, Queue, RemoteError, pipe};
use rustix::event::{PollFd, PollFlags, poll};
use std::error::Error;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sends so many numbers, puts their sum into the queue, and sets the event.
fn feed(mut to: Connection, sum: Queue<u32>, done: Event, count: u32) -> Result<(), RemoteError> {
    for number in 0..count {
        to.send(number)?;
    }
    sum.put((0..count).sum())?;
    done.set();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    println!("wait: {}", by_wait()?);
    println!("poll: {}", by_poll()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    println!("tokio's AsyncFd: {}", runtime.block_on(by_async_fd())?);
    println!("recv_async: {}", runtime.block_on(by_future())?);
    Ok(())
}

type Feeder = (Process<Result<(), RemoteError>>, Connection, Queue<u32>, Event);

fn feeder() -> Result<Feeder, Box<dyn Error>> {
    let (ours, theirs) = pipe()?;
    let (sum, done) = (Queue::new()?, Event::new()?);
    let process = Process::spawn(feed, (theirs, sum.clone(), done.clone(), 100))?;
    Ok((process, ours, sum, done))
}

/// A connection, a queue, an event and a process at once: the indices of those that are ready.
fn by_wait() -> Result<u32, Box<dyn Error>> {
    let (process, mut numbers, sums, done) = feeder()?;
    let (mut added, mut sum) = (0, None);
    loop {
        let ready = wait(&[&numbers, &sums, &done, &process], None)?;
        if ready.contains(&0) {
            match numbers.try_recv::<u32>() {
                Ok(number) => added += number,
                Err(error) if error.is_empty() => {}
                // Everything was received, and the other end is gone: the process has ended.
                Err(error) if error.is_disconnected() => break,
                Err(error) => return Err(error.into()),
            }
        }
        if ready.contains(&1) {
            sum = sums.try_get().ok();
        }
    }
    process.join()??;
    assert!(done.is_set() && sum.or(sums.try_get().ok()) == Some(added));
    Ok(added)
}

/// Any loop of one's own: the descriptor is readable whenever a receive would not block, and perhaps for nothing.
fn by_poll() -> Result<u32, Box<dyn Error>> {
    let (process, mut numbers, _sum, _done) = feeder()?;
    let mut added = 0;
    'all: loop {
        let mut polled = [PollFd::from_borrowed_fd(numbers.as_fd(), PollFlags::IN)];
        poll(&mut polled, None)?;
        // Until it is empty: readiness says "look", not how often.
        loop {
            match numbers.try_recv::<u32>() {
                Ok(number) => added += number,
                Err(error) if error.is_empty() => break,
                Err(error) if error.is_disconnected() => break 'all,
                Err(error) => return Err(error.into()),
            }
        }
    }
    process.join()??;
    Ok(added)
}

/// The same in tokio's own terms.
async fn by_async_fd() -> Result<u32, Box<dyn Error>> {
    let (process, numbers, _sum, _done) = feeder()?;
    // SAFETY: an end gives one descriptor, which it keeps open until it is dropped.
    let mut numbers = unsafe { AsyncFd::register_with_interest(numbers, Interest::READABLE) }?;
    let mut added = 0;
    loop {
        let mut ready = numbers.readable_mut().await?;
        match ready.get_inner_mut().try_recv::<u32>() {
            Ok(number) => added += number,
            Err(error) if error.is_empty() => ready.clear_ready(),
            Err(error) if error.is_disconnected() => break,
            Err(error) => return Err(error.into()),
        }
    }
    process.join()??;
    Ok(added)
}

/// With the feature `async`: futures that lose nothing when they are dropped, as the other branch of a `select!` does.
async fn by_future() -> Result<u32, Box<dyn Error>> {
    let (process, mut numbers, _sum, _done) = feeder()?;
    let mut added = 0;
    loop {
        tokio::select! {
            received = numbers.recv_async::<u32>() => match received {
                Ok(number) => added += number,
                Err(error) if error.is_disconnected() => break,
                Err(error) => return Err(error.into()),
            },
            () = tokio::time::sleep(Duration::from_micros(50)) => {}
        }
    }
    process.join()??;
    Ok(added)
}
