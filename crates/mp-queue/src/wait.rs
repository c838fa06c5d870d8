//! One operation's way to sleep: spin, then slices.

use mp_core::deadline::{Deadline, SLICE};
use mp_core::park::{self, Spin};
use std::cell::RefCell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// What one operation remembers of its sleeps.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    /// Somebody may have woken this one and nobody else: it owes the others a wake when something is left for them.
    pub(crate) slept: bool,
}

impl Wait {
    /// Sleeps on `word` until `ready`, at most a slice; true when that passed without anything.
    #[cold]
    pub(crate) fn sleep(&mut self, word: &AtomicU32, deadline: Deadline, ready: impl Fn() -> bool) -> bool {
        thread_local! {
            static SPIN: RefCell<Spin> = RefCell::default();
        }
        if SPIN.with_borrow_mut(|spin| spin.until(u32::MAX, &ready)) {
            return false;
        }
        word.store(1, Relaxed);
        park::heavy_barrier();
        if ready() {
            // The word stays set: at worst it costs the other side one wake for nobody.
            return false;
        }
        mp_core::step!("queue.wait", 1);
        park::sleep(word, 1, deadline.slice(SLICE));
        mp_core::step!("queue.wait", 2);
        self.slept = true;
        // Others may sleep on the same word, and whoever woke this one has cleared it.
        let woken = word.swap(1, AcqRel) == 0;
        !woken && !ready()
    }
}
