//! Connections between two processes at the speed of shared memory.

#[doc(hidden)]
pub mod packet;
#[doc(hidden)]
pub mod ring;
