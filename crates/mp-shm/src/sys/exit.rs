//! What is still to be done when the process ends in an ordinary way without dropping everything.

#![expect(unsafe_code, reason = "registering a function with the C library")]

use super::own::Own;
use std::sync::atomic::{AtomicBool, Ordering};

/// Has `last` called when this process, or a child that it forked, returns from `main` or calls `exit`.
pub(crate) fn at_exit(last: extern "C" fn()) {
    // A forked child may have been forked before its parent had registered; twice does no harm.
    static REGISTERED: Own<AtomicBool> = Own::new();
    if !REGISTERED.get().swap(true, Ordering::Relaxed) {
        // SAFETY: `last` is a function of this program that takes nothing and returns nothing, as `atexit` asks. Failing to
        // register leaves only what a kill leaves, too.
        let _ = unsafe { libc::atexit(last) };
    }
}
