//! What this process knows of deaths.
//!
//! Whether a peer lives is for the kernel to say, and asking costs more than a short message. So who sends a burst believes an answer
//! for a while; but not for longer than until this process learns of a death, in whatever way: a `join` that returned, a hang-up that
//! another end saw. Whoever learns of one counts it here *before* he tells his caller, and whoever believes an older answer compares
//! the count before he acts on it.
//!
//! Relaxed is enough: who acts on the news has it from the thread that counted, through whatever brought it to him, and what happened
//! before is seen by a relaxed load too. A sender that the news has not reached yet is one who does not know.
//!
//! The hang-up of a dead process's ends comes before the news that it is dead: the kernel closes its descriptors first.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Alone in its pair of cache lines: it is read with each message.
#[repr(align(128))]
struct Deaths(AtomicU64);

static DEATHS: Deaths = Deaths(AtomicU64::new(0));

/// Counts a death, or what may be one: who compares asks the kernel once more, that is all.
pub fn of_a_death() {
    DEATHS.0.fetch_add(1, Relaxed);
}

/// A number that is another one after each death that this process has learnt of.
#[inline(always)]
#[must_use]
pub fn so_far() -> u64 {
    DEATHS.0.load(Relaxed)
}
