//! Queues between many processes that no process's death can tear or block.

#![forbid(unsafe_code)]

mod core;
mod end;
mod error;
mod get;
mod methods;
mod put;
mod queue;
mod split;
mod wait;

pub use error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
pub use mp_core::{DecodeError, EncodeError, GiveError, Passed, TakeError, give, take};
pub use queue::Queue;
pub use split::{Receiver, Sender};
