//! What is still to be done when the process ends in an ordinary way without dropping everything.

#![expect(unsafe_code, reason = "registering a function with the C library")]

use std::sync::Once;

/// Has `last` called when this process, or a child that it forked, returns from `main` or calls `exit`.
pub(crate) fn at_exit(last: extern "C" fn()) {
    static ONCE: Once = Once::new();
    // SAFETY: `last` is a function of this program that takes nothing and returns nothing, as `atexit` asks. Failing to
    // register leaves only what a kill leaves, too.
    ONCE.call_once(|| _ = unsafe { libc::atexit(last) });
}
