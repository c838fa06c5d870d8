//! What the machines stand on in the models: loom's atomics, and a futex that compares and sleeps in one step.

use loom::sync::{Condvar, Mutex};
use std::cell::Cell;
use std::marker::PhantomData;

pub(crate) type AtomicU32 = loom::sync::atomic::AtomicU32;
pub(crate) type AtomicU64 = loom::sync::atomic::AtomicU64;

#[derive(Default)]
struct Queue {
    next: u64,
    /// The address of the word that each sleeps on, and who it is, the longest first.
    sleepers: Vec<(usize, u64)>,
}

loom::lazy_static! {
    static ref QUEUE: Mutex<Queue> = Mutex::new(Queue::default());
    static ref WOKEN: Condvar = Condvar::new();
}

/// A wait that never gives up and never looks after the dead, so that a wake that is missing is a deadlock; or one that is out
/// of time as soon as it would sleep; or one that always looks and never sleeps.
#[derive(Debug, Default)]
pub(crate) struct Watch<'a> {
    pub(crate) impatient: bool,
    pub(crate) watchful: bool,
    pub(super) armed: Option<u32>,
    tired: bool,
    time: Cell<u64>,
    looks: PhantomData<&'a ()>,
}

impl Watch<'_> {
    pub(crate) fn impatient() -> Self {
        Watch { impatient: true, ..Watch::default() }
    }

    pub(crate) fn watchful() -> Self {
        Watch { watchful: true, ..Watch::default() }
    }

    pub(crate) fn over(&self) -> bool {
        self.tired
    }

    pub(crate) fn look_due(&mut self) -> bool {
        self.watchful
    }

    /// Each time it is a second later.
    pub(crate) fn now(&self) -> u64 {
        self.time.set(self.time.get() + 1000);
        self.time.get()
    }

    pub(crate) fn look_at(&mut self, _: u64) {}

    pub(crate) fn sleep(&mut self, word: &AtomicU32, expected: u32) {
        if self.impatient || self.watchful {
            self.tired = self.impatient;
            loom::thread::yield_now();
            return;
        }
        let mut queue = QUEUE.lock().unwrap();
        if word.load(std::sync::atomic::Ordering::Relaxed) != expected {
            return;
        }
        let me = queue.next;
        queue.next += 1;
        queue.sleepers.push((address(word), me));
        while queue.sleepers.iter().any(|(_, who)| *who == me) {
            queue = WOKEN.wait(queue).unwrap();
        }
    }
}

pub(crate) fn wake(word: &AtomicU32, count: u32) -> usize {
    let mut queue = QUEUE.lock().unwrap();
    let mut left = count;
    let before = queue.sleepers.len();
    queue.sleepers.retain(|(on, _)| {
        let wakes = *on == address(word) && left > 0;
        left -= u32::from(wakes);
        !wakes
    });
    WOKEN.notify_all();
    before - queue.sleepers.len()
}

pub(crate) fn will_write(_: &AtomicU32) {}

fn address(word: &AtomicU32) -> usize {
    std::ptr::from_ref(word).addr()
}
