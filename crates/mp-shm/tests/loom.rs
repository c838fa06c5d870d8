//! The bell in every interleaving: no change is slept through.

#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[path = "../src/bell/raw.rs"]
mod raw;

/// The kernel's part: compares the bell and sleeps in one step, and wakes all.
#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    sleepers: Condvar,
}

impl Futex {
    fn sleep(&self, bell: &AtomicU32, expected: u32) {
        let guard = self.lock.lock().unwrap();
        if bell.load(SeqCst) == expected {
            drop(self.sleepers.wait(guard).unwrap());
        }
    }

    fn wake(&self) {
        let _guard = self.lock.lock().unwrap();
        self.sleepers.notify_all();
    }
}

#[derive(Default)]
struct Shared {
    value: AtomicU64,
    bell: AtomicU32,
    kernel: Futex,
}

impl Shared {
    // loom gives sequentially consistent accesses no order beyond acquire and release; its fences have one.
    fn change(&self) {
        self.value.fetch_add(1, SeqCst);
        fence(SeqCst);
        if raw::is_armed(&self.bell) && raw::disarm(&self.bell) {
            self.kernel.wake();
        }
    }

    /// Without slices: a lost wake is a deadlock, which loom reports.
    fn wait_for(&self, wanted: u64) {
        loop {
            let armed = raw::arm(&self.bell);
            fence(SeqCst);
            if self.value.load(SeqCst) >= wanted {
                return;
            }
            self.kernel.sleep(&self.bell, armed);
        }
    }
}

#[test]
fn a_waiter_sees_the_changes_of_two() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let changers: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.change())
            })
            .collect();
        shared.wait_for(2);
        changers.into_iter().for_each(|changer| changer.join().unwrap());
    });
}

#[test]
fn two_waiters_see_one_change() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.wait_for(1))
        };
        let changer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.change())
        };
        shared.wait_for(1);
        waiter.join().unwrap();
        changer.join().unwrap();
    });
}

/// Whoever has armed the bell and died holds nobody up.
#[test]
fn a_dead_waiter_changes_nothing() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        let dead = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || _ = raw::arm(&shared.bell))
        };
        let changer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.change())
        };
        shared.wait_for(1);
        dead.join().unwrap();
        changer.join().unwrap();
    });
}
