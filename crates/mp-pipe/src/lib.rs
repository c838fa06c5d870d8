//! Connections between two processes at the speed of shared memory.

#[doc(hidden)]
pub mod packet;
#[doc(hidden)]
pub mod ring;

mod address;
mod auth;
mod client;
mod connection;
mod error;
mod half;
mod handshake;
mod link;
mod listener;
mod listener_error;
mod one_way;
mod poller;
mod socket_file;
mod travel;

pub use address::Address;
pub use auth::Key;
pub use client::{Client, connect};
pub use connection::{Connection, pipe};
pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use listener::Listener;
pub use listener_error::{AcceptError, AuthenticationError, ConnectError, Peer};
pub use mp_core::{
    DecodeError, EncodeError, GiveError, Passed, Readable, TakeError, Waitable, give, take, wait,
};
pub use one_way::{Receiver, Sender, pipe_one_way};
