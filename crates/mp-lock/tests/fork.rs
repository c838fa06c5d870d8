//! A forked child drops what it inherited, and harms nobody.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "forking")]

use mp_lock::{
    AcquireError, Barrier, Condition, Event, Lock, Mutex, RLock, RwLock, Semaphore, TryAcquireError, Waitable,
};
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

/// The child is a process of its own: what it holds dies with it, what it waits for is given to it.
#[test]
fn what_a_forked_child_uses_it_uses_as_a_process_of_its_own() {
    if role().is_some() {
        let (lock, rwlock, semaphore) =
            (Lock::new().unwrap(), RwLock::new(1_u8).unwrap(), Semaphore::new(1).unwrap());
        let (event, polled, barrier) =
            (Event::new().unwrap(), Event::new().unwrap(), Barrier::new(2).unwrap());
        let (condition, turn) = (Condition::new().unwrap(), Mutex::new(0_u8).unwrap());
        polled.wait_fd().map(drop).unwrap();
        // Known in the parent, and another one in the child.
        drop((lock.acquire().unwrap(), semaphore.acquire()));
        #[expect(clippy::disallowed_methods, reason = "this is about forked children")]
        // SAFETY: this process has one thread that uses anything, and the child ends without running anything else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let held = (lock.acquire().unwrap(), rwlock.write().unwrap(), semaphore.acquire());
            event.set();
            polled.set();
            barrier.wait().unwrap();
            let mut guard = turn.acquire().unwrap();
            while guard.get() == 0 {
                condition.wait(&mut guard).unwrap();
            }
            std::mem::forget((held, guard));
            // SAFETY: ends this process at once, with all that it holds.
            unsafe { libc::_exit(0) };
        }
        event.wait();
        mp_lock::wait(&[&polled], None).unwrap();
        assert!(matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
        assert!(semaphore.try_acquire().is_none());
        barrier.wait().unwrap();
        turn.acquire().unwrap().set(1);
        condition.notify_one();
        let mut status = 0;
        // SAFETY: waits for the child just made.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(matches!(lock.acquire(), Err(AcquireError::OwnerDied(_))));
        assert!(matches!(rwlock.write(), Err(AcquireError::OwnerDied(_))));
        assert!(matches!(turn.acquire(), Err(AcquireError::OwnerDied(_))));
        drop(semaphore.acquire());
        say("unharmed");
        return;
    }
    guarded(|| {
        let test = "what_a_forked_child_uses_it_uses_as_a_process_of_its_own";
        let mut forker = Role::start(command(test, "forker"));
        forker.expect("unharmed");
        assert!(forker.wait().success());
    });
}
