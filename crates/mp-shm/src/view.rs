//! Words of the fixed part of growing memory, found once and used without looking again.

#![expect(
    unsafe_code,
    reason = "the typed views of shared bytes: bounds and alignment are checked when one is made"
)]

use crate::Growable;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// What a [`View`] may show: atomic words and arrays of them.
///
/// # Safety
///
/// Every bit pattern is a value, and every access goes through an atomic.
pub unsafe trait Words {}

// SAFETY: any four bytes are one.
unsafe impl Words for AtomicU32 {}

// SAFETY: any eight bytes are one.
unsafe impl Words for AtomicU64 {}

// SAFETY: as its elements, which lie side by side.
unsafe impl<T: Words, const N: usize> Words for [T; N] {}

/// A `T` in the fixed part of a [`Growable`], which it keeps mapped. A word must be used in one size only.
pub struct View<T> {
    at: NonNull<T>,
    _memory: Growable,
}

impl<T: Words> View<T> {
    pub(crate) fn new(memory: &Growable, offset: usize) -> View<T> {
        let at = memory.fixed().at::<T>(offset);
        // SAFETY: inside of a mapping, as `at` checked, and nothing is mapped at address zero.
        let at = unsafe { NonNull::new_unchecked(at) };
        View { at, _memory: memory.clone() }
    }
}

impl<T: Words> Deref for View<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: bounds and alignment were checked in `new`; the memory is mapped as long as `self` holds it, also when `self`
        // moves; `Words` are atomics, so whatever others write there meanwhile is a value.
        unsafe { self.at.as_ref() }
    }
}

impl<T: Words> Clone for View<T> {
    fn clone(&self) -> View<T> {
        View { at: self.at, _memory: self._memory.clone() }
    }
}

// SAFETY: it lends nothing but atomics, and the memory it holds may be used and dropped by any thread.
unsafe impl<T: Words> Send for View<T> {}

// SAFETY: as for `Send`.
unsafe impl<T: Words> Sync for View<T> {}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.at).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use std::sync::atomic::Ordering::Relaxed;

    const FORMAT: Format = Format::plain(*b"TEST", 1);

    #[test]
    fn it_shows_the_bytes_and_outlives_its_maker() {
        let memory = Growable::create(FORMAT, 128).unwrap();
        let view: View<[AtomicU64; 2]> = memory.view(crate::HEADER);
        memory.fixed().atomic_u64(crate::HEADER + 8).store(7, Relaxed);
        drop(memory);
        let moved = view.clone();
        drop(view);
        assert_eq!(moved[1].load(Relaxed), 7);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn one_beyond_the_end_is_refused() {
        let memory = Growable::create(FORMAT, 128).unwrap();
        let _: View<[AtomicU64; 2]> = memory.view(memory.fixed().len() - 8);
    }
}
