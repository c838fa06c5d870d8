//! This project's crates. One file each.

pub(crate) mod lock;
pub(crate) mod pipe;
pub(crate) mod queue;

/// A child of `multiprocess` enters here and does not return.
pub(crate) fn init() {}
