//! The atomics that `raw` uses; the models in `tests/loom.rs` put theirs in this place.

pub(super) type AtomicU32 = core::sync::atomic::AtomicU32;
pub(super) type AtomicU64 = core::sync::atomic::AtomicU64;
pub(super) use core::sync::atomic::fence;
