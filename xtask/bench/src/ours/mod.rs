//! This project's crates, as their users have them: through the facade. One file each.

pub(crate) mod hand_over;
pub(crate) mod lane;
pub(crate) mod large;
pub(crate) mod listener;
pub(crate) mod lock;
pub(crate) mod many;
pub(crate) mod memory;
pub(crate) mod pipe;
pub(crate) mod pool;
pub(crate) mod pool_echo;
pub(crate) mod pool_fates;
pub(crate) mod queue;
mod second;
pub(crate) mod start;
pub(crate) mod waiting;

/// A child of `multiprocess` enters here and does not return.
pub(crate) fn init() {
    multiprocess::init();
}
