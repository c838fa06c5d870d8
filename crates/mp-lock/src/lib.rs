//! Locks between processes that survive the death of their holder.

#[doc(hidden)]
pub mod raw;
mod sys;
