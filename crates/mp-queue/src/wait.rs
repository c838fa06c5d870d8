//! One operation's way to sleep: spin, then slices.

use mp_core::deadline::{Deadline, SLICE};
use mp_core::park::{self, Spin};
use mp_pipe::ring::Ring;
use std::cell::RefCell;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use std::sync::atomic::fence;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A consumer, for a message.
    Get,
    /// A producer, for room.
    Put,
}

/// What one operation remembers of its sleeps.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    /// Somebody may have woken this one and nobody else: it owes the others a wake when something is left for them.
    pub(crate) slept: bool,
}

impl Wait {
    /// Sleeps until `ready`, at most a slice; true when that passed without anything. Before, it spins until `worth_it`: what is not worth
    /// the look yet, which costs the other side as much as a message, may be ready all the same.
    #[cold]
    pub(crate) fn sleep(
        &mut self,
        ring: &Ring,
        side: Side,
        deadline: Deadline,
        worth_it: impl FnMut() -> bool,
        ready: impl Fn() -> bool,
    ) -> bool {
        thread_local! {
            static SPIN: RefCell<[Spin; 2]> = RefCell::default();
        }
        let (word, mine, peer) = match side {
            Side::Get => (ring.reader_asleep(), ring.reader_core(), ring.writer_core()),
            Side::Put => (ring.writer_asleep(), ring.writer_core(), ring.reader_core()),
        };
        ring.announce_core(mine);
        // Once a wait: who then sleeps for long does not burn a spin at the end of each slice. Of several on the other side, the
        // one who was seen last stands for all.
        let last_seen = peer.load(Relaxed).wrapping_sub(1);
        if !self.slept && SPIN.with_borrow_mut(|spins| spins[side as usize].until(last_seen, worth_it)) {
            return false;
        }
        word.store(1, Relaxed);
        // Who publishes gives a lock back before he looks at the word: on x86-64 that is a full barrier on his side.
        if cfg!(target_arch = "x86_64") {
            fence(SeqCst);
        } else {
            park::heavy_barrier();
        }
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
