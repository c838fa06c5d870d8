//! When a bell is rung and when it falls silent, so that who sleeps on it in the kernel misses nothing.
//!
//! A bell is a descriptor that stays readable from a ring until somebody silences it. There are two: one for values (who
//! gets sleeps on it), one for room (who puts). "Something" is a value inside, or room; or that the queue is closed.
//!
//! | state | word `polled` | something there | bell | becomes |
//! | --- | --- | --- | --- | --- |
//! | nobody polls | 0 | any | any | polled, by the first who asks for a descriptor: he rings once, for whatever is there |
//! | quiet | 1 | no | silent | ringing, by who is about to bring something |
//! | ringing | 1 | perhaps | rung | quiet, by a poller who sees nothing while nobody can bring anything |
//!
//! Invariants:
//! 1. `polled` is set once and never cleared: nobody counts pollers, so none is missed when it dies.
//! 2. While `polled` is set and something is there, the bell is rung. He who brings rings *before* he publishes, and only he
//!    who excludes all that could bring something silences.
//! 3. What is brought where nothing was rings anew, also a bell that was not silenced: an edge for those who wait for edges.
//!
//! | who dies | leaves | why it does no harm |
//! | --- | --- | --- |
//! | who brings, after the ring | a bell for nothing | a poller looks once for nothing |
//! | who silences, before or after | a bell rung for nothing, or a quiet one with nothing there | both are states of the table |
//! | who is about to poll, after `polled` was set | rings that nobody hears | the next poller rings for itself |
//!
//! Memory orderings: all is Relaxed. Who brings and who silences hold the same lock; `polled` is set before its setter first
//! takes that lock to silence the bell which it rang itself, so whoever brings something after that silence sees it set, and what was
//! brought before it is seen by the look under the lock.

use crate::sync::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// Before something is published, by who holds the lock: rings when somebody polls and nothing was there.
#[inline]
pub(crate) fn announce(polled: &AtomicU32, nothing_there: impl FnOnce() -> bool, ring: impl FnOnce()) {
    if polled.load(Relaxed) != 0 && nothing_there() {
        ring();
    }
}

/// Before the first poll of a process.
pub(crate) fn begin(polled: &AtomicU32, ring: impl FnOnce()) {
    polled.store(1, Relaxed);
    ring();
}

/// By a poller that saw nothing, under the lock: true when the bell is quiet because nothing is there.
pub(crate) fn silence(something_there: impl FnOnce() -> bool, drain: impl FnOnce()) -> bool {
    if something_there() {
        return false;
    }
    drain();
    true
}
