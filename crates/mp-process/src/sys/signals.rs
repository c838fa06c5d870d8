//! What an interrupt from the terminal does to this process.

#![expect(unsafe_code, reason = "dispositions of signals")]

use std::mem::MaybeUninit;
use std::{fmt, ptr};

/// A disposition as it was, with its flags and mask; none where it could not be changed.
#[derive(Clone, Copy)]
pub(crate) struct Before(Option<libc::sigaction>);

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Before").finish_non_exhaustive()
    }
}

/// Interrupts do nothing from here on.
pub(crate) fn ignore_interrupts() -> Before {
    let mut ignore = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroes are an empty mask and no flags; the handler is the one that ignores.
    unsafe { ignore.assume_init_mut() }.sa_sigaction = libc::SIG_IGN;
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sets a disposition without a handler, and writes the old one to a place that is as large.
    let answer = unsafe { libc::sigaction(libc::SIGINT, ignore.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: zeroes are valid for it, and the call has written it.
    Before((answer == 0).then(|| unsafe { before.assume_init() }))
}

/// Interrupts do what they did before.
pub(crate) fn restore_interrupts(Before(before): Before) {
    if let Some(before) = before {
        // SAFETY: what this process had itself; a handler among it is still in the same program, and is called as it was.
        unsafe { libc::sigaction(libc::SIGINT, &raw const before, ptr::null_mut()) };
    }
}
