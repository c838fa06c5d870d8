//! The word of a mutex that the kernel knows: who owns it.
//!
//! Purpose: the two turns of the word that need nobody else: a free mutex is taken, an owned one is given back. All others (sleeping,
//! taking over from the dead) are the C library's, on the same word; the kernel's is the death of an owner.
//!
//! | the word | means | `take` | `give` by its owner | the owner dies |
//! | --- | --- | --- | --- | --- |
//! | 0 | free | the thread's id | – | – |
//! | a thread's id | owned | – | 0 | 0 with `OWNER_DIED` |
//! | an id with `WAITERS` | owned, somebody may sleep | – | 0, and one sleeper is to be woken | `WAITERS`, `OWNER_DIED`; the kernel wakes one |
//! | `OWNER_DIED`, with or without `WAITERS` | orphaned | – (the C library takes it) | – | – |
//!
//! Invariants:
//! 1. Only 0 is taken, and only by writing an id: two never own it.
//! 2. Whoever sleeps has set `WAITERS` while somebody owned it, in one step with looking at the owner; whoever was woken takes it with
//!    `WAITERS` set, for those who sleep behind him. So a `give` that finds no such bit wakes nobody because nobody sleeps, but for those
//!    whose wake died with the woken one: they sleep in slices.
//!
//! Memory orderings: `give` releases what the owner wrote, `take` and the C library's turns acquire it.

use super::sync::AtomicU32;
use std::sync::atomic::Ordering;

/// The part of the word that is a thread's id.
pub(crate) const TID_MASK: u32 = 0x3fff_ffff;
/// Somebody may sleep.
pub(crate) const WAITERS: u32 = 0x8000_0000;

/// Its owner died.
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;

/// Takes a free mutex for `thread`.
///
/// # Errors
///
/// The word, where it is not free.
#[inline(always)]
pub(crate) fn take(word: &AtomicU32, thread: u32) -> Result<(), u32> {
    word.compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed).map(drop)
}

/// Gives it back, which its owner alone may do; whether a sleeper is to be woken.
#[inline(always)]
#[must_use]
pub(crate) fn give(word: &AtomicU32) -> bool {
    word.swap(0, Ordering::Release) & WAITERS != 0
}
