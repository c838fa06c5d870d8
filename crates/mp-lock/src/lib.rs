//! Locks between processes that survive the death of their holder.

mod error;
mod lock;
mod orphan;
#[doc(hidden)]
pub mod raw;
mod sys;

pub use error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
pub use lock::{Lock, LockGuard};
pub use mp_core::{GiveError, Passed, TakeError, give, take};
