//! Connections between two processes at the speed of shared memory.
//!
//! The standard library's `mpsc` channels connect threads, and its pipes and Unix sockets carry bytes through the kernel: a system
//! call and a copy or two for each message, no message boundaries, no values. Between threads stay with channels; between machines, or
//! for programs in other languages, take sockets. Between two processes of one machine take a [`pipe()`]: whole messages of any serde
//! type, many millions a second, and no process's death makes the other one wait.
//!
//! The parent gives one end to a child and prints what comes:
//!
//! ```standalone_crate
//! use mp_pipe::{Connection, give, pipe, take};
//! use std::{env, error::Error, process::Command};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if env::args().nth(1).as_deref() == Some("child") {
//!         let mut connection: Connection = take("connection")?;
//!         connection.send("obj".to_owned())?;
//!         return Ok(());
//!     }
//!     let (mut parent, child) = pipe()?;
//!     let mut process = Command::new(env::current_exe()?);
//!     give(process.arg("child"), "connection", &child)?;
//!     let mut process = process.spawn()?;
//!     let text: String = parent.recv()?;
//!     println!("{text}"); // obj
//!     assert!(process.wait()?.success());
//! #   assert_eq!(text, "obj");
//!     Ok(())
//! }
//! ```
//!
//! With `mp-process` the end is simply an argument of the function that the child runs.
//!
//! # Concepts
//!
//! - **Two ends.** [`pipe()`] gives two equal ends that both send and receive. [`pipe_one_way()`] gives a [`Sender`] and a [`Receiver`] of one type,
//!   and the wrong direction does not compile.
//! - **Messages.** Any serde type that postcard carries, whole and in order, from nothing at all to just below 4 GiB. A `Vec<u8>`, a `String` and
//!   vectors of numbers cross as the bytes they are. Each message of a [`Connection`] has its own type; asking for another one is an error.
//! - **One user.** An end belongs to one process. Sending it moves it: the handle that stays answers
//!   [`Moved`](SendError::Moved), and one in a forked child [`InUse`](SendError::InUse). What many should use is a queue (`mp-queue`).
//! - **Handles travel.** Ends of pipes, shared memory, locks, and with [`Passed`] any file or socket, go inside of messages, nested as you like.
//! - **Waiting.** [`wait()`] sleeps until one of many is ready. Every receiving end is also a descriptor ([`AsFd`](std::os::fd::AsFd)) for `poll`, epoll
//!   or tokio's `AsyncFd`: readable whenever a receive would not block, perhaps also for nothing, never the other way round.
//! - **Strangers.** A [`Listener`] waits at an [`Address`] for programs that were not started by each other; [`connect`] finds it. Both prove that they know
//!   a [`Key`]. What they get is a connection like any other.
//!
//! # What waits, and for what
//!
//! | operation | waits | without waiting | at most so long | ends early |
//! | --- | --- | --- | --- | --- |
//! | [`send`](Connection::send) | while the pipe is full | [`try_send`](Connection::try_send) | [`send_timeout`](Connection::send_timeout), [`send_deadline`](Connection::send_deadline) | the other end is gone |
//! | [`recv`](Connection::recv) | for a message | [`try_recv`](Connection::try_recv) | [`recv_timeout`](Connection::recv_timeout), [`recv_deadline`](Connection::recv_deadline) | the other end is gone |
//! | [`poll`](Connection::poll) | until `recv` would not wait | `poll` of zero | always | the other end is gone |
//! | [`wait()`] | until one of many is ready | time-out of zero | `Some(timeout)` | – |
//! | [`Listener::accept`] | for a client | [`accept_timeout`](Listener::accept_timeout) of zero | [`accept_timeout`](Listener::accept_timeout), [`accept_deadline`](Listener::accept_deadline) | – |
//! | [`connect`] | until the listener accepts | – | [`Client::timeout`] | the listener is gone |
//!
//! A side that waits burns no processor time: it spins for some microseconds, as long as that has lately paid, and then sleeps in the kernel. A time-out covers
//! the whole operation, and a signal does not end it.
//!
//! # What happens when a process dies
//!
//! However it ends, killed in the middle of an instruction for one, the kernel tells the other side:
//!
//! | killed | what the others get |
//! | --- | --- |
//! | while it sends | the message was not sent, or sent whole; never a part of it |
//! | after it has sent | everything that it sent is received, then [`Disconnected`](RecvError::Disconnected) |
//! | while it receives | the sender's next [`send`](Connection::send), or the one that waits for room, fails with [`Disconnected`](SendError::Disconnected) and the value |
//! | while an end is on its way in a message | nothing: the end counts as alive, and is gone with the message when nobody will receive it |
//! | while it sends an end | as any message: the end has moved whole, or is gone with its process |
//! | while it waits for anything | nobody ever waits for one who waits |
//! | a client in the handshake | [`accept`](Listener::accept) answers [`Gone`](AcceptError::Gone), and goes on when it is called again |
//! | a listener in the handshake | [`connect`] answers [`Gone`](ConnectError::Gone) |
//! | a listener | its clients' connections end; the file that it leaves is cleared by the next one at that path |
//!
//! A process that is stopped (SIGSTOP) is alive: others wait for it as long as their time-outs say.
//!
//! # Gotchas
//!
//! - Two that both send and never receive wait for each other once both directions are full, as with sockets: about 64 KiB each way. Receive in between, use a
//!   time-out, or a queue without a bound.
//! - Keep only your own end. As long as this process also holds the end that it means for a child, it is its own peer and never sees it gone;
//!   giving or sending the end takes care of that.
//! - A child made by a plain `fork` holds copies of all ends until it ends or closes them, and the news of a death waits for it.
//! - That `send` succeeded means that the message is in the pipe, not that anybody has received it. The kernel is asked for the
//!   other end's death once in some tens of microseconds: a message sent within that time after it may be taken for sent.
//! - Receiving a type that was not sent is an error or, where the bytes happen to fit, a wrong value. Use one enum for all you send.
//! - Types with `skip_serializing_if`, `flatten` or `untagged` do not cross postcard: the first decode wrongly, the others are errors.
//! - Readiness can end only by receiving: a descriptor says "look", not how often. Receive until empty before sleeping on it again.
//! - Memory: some 200 KiB a pipe once both directions were used, and up to 256 KiB in each after messages of more than 16 KiB. It grows further for a large one, and that memory goes back when the receiver next waits.
//! - A message for which the receiver has no memory, or no address space, is an error there and stays in the pipe.
//! - The kernel keeps a limited number of handles in flight, about 278 messages' worth a pipe: beyond it, sending a handle is
//!   [`TooManyHandles`](SendError::TooManyHandles) at once, with the value.
//! - A [`Listener`] makes progress only inside of `accept`. An error of `accept` is mostly one client's: see [`AcceptError::is_of_client`].
//!
//! # Platforms
//!
//! | | Linux | macOS, Windows |
//! | --- | --- | --- |
//! | everything | 5.3 and later, both sides in one pid namespace | not yet |
//!
//! # Features
//!
//! | feature | gives | costs |
//! | --- | --- | --- |
//! | `async` | `recv_async`, [`Listener`]`::accept_async`, under any executor | `async-io`, and its one thread a process once used |
//!
//! # Trust and safety
//!
//! Whoever holds an end is trusted with what it sends, but nothing that is read from shared memory is believed: lengths and positions are checked, and what makes no sense is an
//! error. This crate has no unsafe code. Who gets an end is decided by whoever gives it away, and by a [`Listener`]: with a key by a mutual
//! HMAC-SHA-256 challenge (the client proves first, the key never crosses, the comparison takes constant time), without one by the kernel's word that both are of one user.

#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod packet;
#[doc(hidden)]
pub mod ring;

mod address;
mod auth;
mod client;
mod connection;
mod error;
#[cfg(feature = "async")]
mod futures;
mod half;
mod halves;
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
pub use error::{
    RecvBytesIntoError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use halves::{RecvHalf, ReuniteError, SendHalf, SplitError};
pub use listener::Listener;
pub use listener_error::{AcceptError, AuthenticationError, ConnectError, Peer};
#[doc(inline)]
pub use mp_core::give::{GiveError, TakeError, give, take};
#[doc(inline)]
pub use mp_core::wait::{Readable, Waitable, wait};
#[doc(inline)]
pub use mp_core::{DecodeError, EncodeError, Passed};
pub use one_way::{Receiver, Sender, pipe_one_way};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
