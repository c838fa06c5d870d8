//! Connections between two processes at the speed of shared memory.

#[doc(hidden)]
pub mod packet;
#[doc(hidden)]
pub mod ring;

mod connection;
mod error;
mod half;
mod link;
mod one_way;
mod poller;
mod travel;

pub use connection::{Connection, pipe};
pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use mp_core::{
    DecodeError, EncodeError, GiveError, Passed, Readable, TakeError, Waitable, give, take, wait,
};
pub use one_way::{Receiver, Sender, pipe_one_way};
