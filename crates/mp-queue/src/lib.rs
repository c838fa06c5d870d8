//! Queues between many processes that no process's death can tear or block.

#![forbid(unsafe_code)]

mod core;
mod error;
mod queue;

pub use error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
pub use mp_core::{DecodeError, EncodeError, GiveError, Passed, TakeError, give, take};
pub use queue::{Queue, Receiver, Sender};
