//! The atomics that the state machines of `raw` use; the models in `tests/loom.rs` put theirs in this place.

pub(crate) type AtomicU32 = core::sync::atomic::AtomicU32;
pub(crate) type AtomicU64 = core::sync::atomic::AtomicU64;
