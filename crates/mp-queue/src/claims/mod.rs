//! The claims of a queue that can be joined.

mod buffers;
mod own;
mod sweep;
mod table;

pub(crate) use table::{Claimed, Claims, FIXED, FORMAT};
