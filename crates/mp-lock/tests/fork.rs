//! A forked child drops what it inherited, and harms nobody.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "forking")]

use mp_lock::{Barrier, Lock, Mutex, RLock, Semaphore, TryAcquireError};
use mp_test::{Role, command, guarded, role, say};

/// In a process of its own, which has one thread.
#[test]
fn what_a_forked_child_drops_stays_the_parents() {
    if role().is_some() {
        let (lock, rlock, mutex) = (Lock::new().unwrap(), RLock::new().unwrap(), Mutex::new(1_u8).unwrap());
        let (semaphore, barrier) = (Semaphore::new(1).unwrap(), Barrier::new(1).unwrap());
        let held = (lock.acquire().unwrap(), rlock.acquire().unwrap(), mutex.acquire().unwrap());
        let counted = (semaphore.acquire(), barrier.join_party().unwrap());
        #[expect(clippy::disallowed_methods, reason = "this is about forked children")]
        // SAFETY: this process has one thread, and the child ends without running anything else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(held);
            drop(counted);
            let mine = matches!(lock.try_acquire(), Err(TryAcquireError::Held));
            drop((lock, rlock, mutex, semaphore, barrier));
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(!mine)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child found the lock free");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
                assert!(matches!(rlock.try_acquire(), Err(TryAcquireError::Held)));
                assert!(matches!(mutex.try_acquire(), Err(TryAcquireError::Held)));
                assert!(semaphore.try_acquire().is_none() && barrier.join_party().is_err());
            });
        });
        drop((held, counted));
        assert!(!lock.is_locked() && !rlock.is_locked() && !mutex.is_locked());
        say("unharmed");
        return;
    }
    guarded(|| {
        let mut forker = Role::start(command("what_a_forked_child_drops_stays_the_parents", "forker"));
        forker.expect("unharmed");
        assert!(forker.wait().success());
    });
}
