//! A barrier that costs the busy side nothing: the side that goes to sleep pays for both, in the kernel.
#![expect(unsafe_code, reason = "membarrier is not in rustix")]

use std::sync::atomic::{Ordering, compiler_fence, fence};

const GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// How a process orders its store before its next load: both sides must have chosen the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Both sides fence.
    Fenced,
    /// Only the sleeper does, on all cores.
    Light,
}

impl Barrier {
    /// Light where the kernel knows it.
    pub(super) fn best() -> Self {
        if membarrier(REGISTER_GLOBAL_EXPEDITED) { Self::Light } else { Self::Fenced }
    }

    /// Between publishing and looking for a sleeper.
    pub(super) fn awake(self) {
        match self {
            Self::Fenced => fence(Ordering::SeqCst),
            Self::Light => compiler_fence(Ordering::SeqCst),
        }
    }

    /// Between saying "asleep" and looking once more.
    pub(super) fn asleep(self) {
        match self {
            Self::Fenced => fence(Ordering::SeqCst),
            Self::Light => _ = membarrier(GLOBAL_EXPEDITED),
        }
    }
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: takes three integers and touches no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}
