//! The claims of a queue that can be joined.

mod buffers;
mod own;
mod sweep;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::{Claimed, Claims, FIXED, FORMAT};
