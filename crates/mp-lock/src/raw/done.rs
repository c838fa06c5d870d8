//! Whether something was done, as one word that is changed under a mutex and read without.
//!
//! Memory orderings: done is stored with Release and read with Acquire: who finds it done sees what was done.

use super::sync::AtomicU32;
use std::sync::atomic::Ordering;

/// The word: 0 not done, 1 done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<'a>(pub(crate) &'a AtomicU32);

impl Done<'_> {
    #[inline]
    pub(crate) fn is_done(self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Runs `f` unless it is done, under the mutex.
    pub(crate) fn run(self, f: impl FnOnce()) {
        if self.is_done() {
            return;
        }
        mp_core::step!("once.call", 1);
        f();
        mp_core::step!("once.call", 2);
        self.0.store(1, Ordering::Release);
        mp_core::step!("once.call", 3);
    }
}
