//! What an interrupt from the terminal does to this process.

#![expect(unsafe_code, reason = "dispositions of signals")]

/// A disposition as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before(libc::sighandler_t);

/// Interrupts do nothing from here on.
pub(crate) fn ignore_interrupts() -> Before {
    // SAFETY: sets a disposition without a handler.
    Before(unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) })
}

/// Interrupts do what they did before.
pub(crate) fn restore_interrupts(Before(handler): Before) {
    if handler != libc::SIG_ERR {
        // SAFETY: what this process had itself; a handler among it is still in the same program.
        unsafe { libc::signal(libc::SIGINT, handler) };
    }
}
