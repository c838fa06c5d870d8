//! The bell's word: no system call, so that a model can try every interleaving.

use super::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

/// Says that somebody waits; returns the value on which to sleep.
#[inline]
pub(crate) fn arm(bell: &AtomicU32) -> u32 {
    bell.fetch_or(1, SeqCst) | 1
}

/// Whether somebody may wait.
#[inline]
pub(crate) fn is_armed(bell: &AtomicU32) -> bool {
    bell.load(SeqCst) & 1 == 1
}

/// Says that nobody waits any more; false when somebody else has just done so, and wakes.
///
/// An exchange that fails saw another value than the load before: somebody rang in between, since waiters leave an odd value as it
/// is. A waiter who has armed it again since then looks after that, and sees what was changed before.
#[inline]
pub(crate) fn disarm(bell: &AtomicU32) -> bool {
    let armed = bell.load(SeqCst);
    armed & 1 == 1 && bell.compare_exchange(armed, armed.wrapping_add(1), SeqCst, SeqCst).is_ok()
}
