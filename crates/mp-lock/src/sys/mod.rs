//! The doors to the OS: mutexes of the C library that survive their owner.

pub(crate) mod guarded;
mod held;
pub(crate) mod pthread;
pub(crate) mod robust;
