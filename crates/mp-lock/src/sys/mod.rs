//! The doors to the OS: mutexes of the C library that survive their owner.

pub(crate) mod guarded;
pub(crate) mod robust;
