//! A program written against the traits of the `raw_sync` crate, with primitives that survive a killed holder.
//!
//! Only the names of the two types differ from a program for `raw_sync`'s own `Mutex` and `Event`, which would wait for ever.

#![expect(unsafe_code, reason = "raw_sync's traits lie over raw memory")]

use multiprocess::lock::raw_sync::{FutexEvent, RobustMutex};
use multiprocess::shm::SharedMemory;
use multiprocess::{Process, RemoteError};
use raw_sync::Timeout;
use raw_sync::events::{EventInit, EventState};
use raw_sync::locks::LockInit;
use std::error::Error;
use std::time::Duration;

/// Where the event starts in the memory, and where the data; the lock is at the front.
const EVENT: usize = 512;
const DATA: usize = 1024;

fn remote(error: Box<dyn Error>) -> RemoteError {
    RemoteError::new(error.to_string())
}

/// Takes the lock, says so, and never gives it back.
fn holder(name: String) -> Result<(), RemoteError> {
    let memory = SharedMemory::open(&name)?;
    // SAFETY: the parent made a lock and an event here, and the memory outlives both.
    let (lock, _) =
        unsafe { RobustMutex::from_existing(memory.as_ptr(), memory.as_ptr().wrapping_add(DATA)) }
            .map_err(remote)?;
    // SAFETY: as above.
    let (event, _) =
        unsafe { FutexEvent::from_existing(memory.as_ptr().wrapping_add(EVENT)) }.map_err(remote)?;
    let guard = lock.lock().map_err(remote)?;
    event.set(EventState::Signaled).map_err(remote)?;
    // The parent kills this process here, with the lock held.
    std::thread::sleep(Duration::from_secs(3600));
    drop(guard);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let name = format!("mp-example-raw-{}", std::process::id());
    let memory = SharedMemory::create(&name, 4096)?;
    let data = memory.as_ptr().wrapping_add(DATA);
    // SAFETY: fresh memory that outlives the lock, large enough for it.
    let (lock, used) = unsafe { RobustMutex::new(memory.as_ptr(), data) }?;
    assert!(used <= EVENT);
    // SAFETY: as above, behind the lock.
    let (event, used) = unsafe { FutexEvent::new(memory.as_ptr().wrapping_add(EVENT), true) }?;
    assert!(EVENT + used <= DATA);

    for round in 1..=3 {
        let process = Process::spawn(holder, (name.clone(),))?;
        event.wait(Timeout::Infinite)?;
        process.kill()?;
        process.wait()?;
        let guard = lock.try_lock(Timeout::Val(Duration::from_secs(10)))?;
        println!("round {round}: the holder was killed, the lock is ours");
        drop(guard);
    }
    Ok(())
}
