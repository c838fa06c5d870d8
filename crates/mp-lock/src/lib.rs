//! Locks between processes that survive the death of their holder.

mod barrier;
mod condition;
mod error;
mod event;
mod gate;
mod lock;
mod mutex;
mod once;
mod orphan;
mod plain;
#[doc(hidden)]
pub mod raw;
pub mod raw_sync;
mod rlock;
mod semaphore;
mod sys;

pub use barrier::{Barrier, BarrierError, MAX_PARTIES, Party, TooManyParties};
pub use condition::{Condition, ConditionGuard, MAX_WAITERS};
pub use error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use mp_core::{GiveError, Passed, TakeError, give, take};
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rlock::{RLock, RLockGuard};
pub use semaphore::{BoundedSemaphore, MAX_PERMITS, Permit, ReleaseError, Semaphore};
