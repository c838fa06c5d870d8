//! State machines on words: no system call, no pointer, so a model checker runs them as they are (`tests/loom.rs`).

pub(crate) mod bell;
pub(crate) mod claim;
