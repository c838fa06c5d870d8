//! Locks held by children of the fork server, which are made by a bare `clone3`: their deaths are news at once, too.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_test::guarded;
use multiprocess::lock::{AcquireError, RwLock, Semaphore};
use multiprocess::process::{ForkServer, StartMethod};
use multiprocess::{Lock, Process};

multiprocess::enable_test_support!();

fn hold(lock: Lock, table: RwLock<u32>, seats: Semaphore, held: multiprocess::lock::Event) {
    let _guard = lock.acquire().unwrap();
    let _writing = table.write().unwrap();
    let _permit = seats.acquire();
    held.set();
    loop {
        std::thread::park();
    }
}

#[test]
fn what_a_killed_child_of_the_fork_server_held_passes_on_at_once() {
    guarded(|| {
        for _ in 0..3 {
            let (lock, table) = (Lock::new().unwrap(), RwLock::new(7).unwrap());
            let (seats, held) = (Semaphore::new(1).unwrap(), multiprocess::lock::Event::new().unwrap());
            let args = (lock.clone(), table.clone(), seats.clone(), held.clone());
            let child = Process::builder().start_method(StartMethod::ForkServer).spawn(hold, args).unwrap();
            held.wait();
            assert!(
                lock.try_acquire().is_err() && table.try_read().is_err() && seats.try_acquire().is_none()
            );
            let pid = child.pid().to_string();
            assert!(format!("{lock:?}").contains(&pid), "{lock:?} is held by {pid}");
            child.kill().unwrap();
            assert!(matches!(lock.acquire(), Err(AcquireError::OwnerDied(_))));
            assert!(matches!(table.read(), Err(AcquireError::OwnerDied(_))));
            drop(seats.acquire());
            assert!(child.join().is_err());
        }
        ForkServer::stop();
    });
}
