//! The hand-made limits: each does one row's work and nothing else. No death is survived, nothing is checked.

mod barrier;
pub(crate) mod blocked;
pub(crate) mod bytes;
pub(crate) mod futex;
pub(crate) mod large;
pub(crate) mod links;
pub(crate) mod many;
pub(crate) mod memory;
pub(crate) mod mutex;
pub(crate) mod pool;
pub(crate) mod reexec;
mod ring;
pub(crate) mod worker;
pub(crate) mod zygote;
