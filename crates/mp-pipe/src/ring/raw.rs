//! The words that both sides of a ring share, as a state machine: no memory, no system call, so that `tests/loom.rs` runs it in
//! every interleaving.
//!
//! | who | does | with |
//! | --- | --- | --- |
//! | a side that finishes an operation | names the position behind it, then counts it | [`commit`] |
//! | the same side, later | reads where it stands | [`own`] |
//! | the other side | reads how far it has come, and where that is | [`others`] |
//! | a side with nothing to do | says that it dozes, for a moment, and looks once more | [`doze`] |
//! | … and still nothing | says that it sleeps, and looks once more | [`may_sleep`] |
//! | a side that has committed | looks whether the other one sleeps, and how | [`must_wake`] |
//!
//! 1. `places[n % 2]` is the position behind operation `n`. It is stored before the count becomes `n`, and stored again on the way to
//!    `n + 2` at the earliest: whoever sees the count at `n` before *and* after reading has read the right one.
//! 2. Of "counted, then looked at the sleep word" and "set the sleep word, then looked at the count" at least one sees the other's store,
//!    given a full barrier between store and look on both sides.
//! 3. A sleep word that was set is taken back by exactly one: the sleeper, or the one who wakes him.
//! 4. Before a doze the barrier is on the dozing side alone, as a full one on both would cost more than most dozes take. So its wake can be
//!    missed; then it ends by itself, after a moment, and the sleep behind it is under 2.

use super::sync::{AtomicU32, AtomicU64, fence};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Which of the two places belongs to `count`.
#[inline]
pub(super) const fn parity(count: u64) -> usize {
    (count & 1) as usize
}

/// Counts operation `next`, which ends at `end`. A death before the count is stored, in `between` say, leaves nothing.
#[inline(always)]
pub(super) fn commit(
    count: &AtomicU64,
    places: [&AtomicU64; 2],
    next: u64,
    end: u64,
    between: impl FnOnce(),
) {
    places[parity(next)].store(end, Relaxed);
    between();
    // Release: who sees the count sees the place, and what was done to the bytes before.
    count.store(next, Release);
}

/// How far this side has come, and where that is: nobody else stores these words now.
#[inline(always)]
pub(super) fn own(count: &AtomicU64, places: [&AtomicU64; 2]) -> (u64, u64) {
    let count = count.load(Relaxed);
    (count, places[parity(count)].load(Relaxed))
}

/// The position behind what the other side has really done. Acquire: what it did to the bytes is over.
pub(super) fn others(count: &AtomicU64, places: [&AtomicU64; 2]) -> u64 {
    loop {
        let seen = count.load(Acquire);
        let place = places[parity(seen)].load(Relaxed);
        // Unchanged, the count vouches for what was read before it: by invariant 1.
        fence(Acquire);
        if count.load(Relaxed) == seen {
            return place;
        }
    }
}

/// What a sleep word says.
pub(super) const AWAKE: u32 = 0;
/// Wants a bell.
pub(super) const ASLEEP: u32 = 1;
/// Sleeps on the word itself, for a moment.
pub(super) const DOZING: u32 = 2;

/// While there is reason for it, `doze` sleeps as long as the word says [`DOZING`], a moment at most. Whatever ended it, what there is to find is
/// looked for afterwards.
#[inline]
pub(super) fn doze(
    asleep: &AtomicU32,
    barrier: impl FnOnce(),
    reason: impl FnOnce() -> bool,
    doze: impl FnOnce(),
) {
    asleep.store(DOZING, Relaxed);
    barrier();
    if reason() {
        doze();
    }
    asleep.store(AWAKE, Relaxed);
}

/// Before a sleep: false when there is no reason for it any more. `rung_for` is called when somebody rang meanwhile.
#[inline]
pub(super) fn may_sleep(
    asleep: &AtomicU32,
    barrier: impl FnOnce(),
    reason: impl FnOnce() -> bool,
    rung_for: impl FnOnce(),
) -> bool {
    asleep.store(ASLEEP, Relaxed);
    barrier();
    if reason() {
        return true;
    }
    if asleep.swap(AWAKE, AcqRel) == AWAKE {
        rung_for();
    }
    false
}

/// After a commit: what the other side was found at, which this side must now end unless it is [`AWAKE`].
#[inline(always)]
pub(super) fn must_wake(asleep: &AtomicU32, barrier: impl FnOnce()) -> u32 {
    barrier();
    if asleep.load(Relaxed) == AWAKE { AWAKE } else { asleep.swap(AWAKE, AcqRel) }
}
