//! What parent and child say to each other over the socket that the child inherits.
//!
//! | step | parent | child |
//! | --- | --- | --- |
//! | `process.spawn:1` | the process exists | starts up, reaches `init()`, looks at its standard input |
//! | `process.spawn:2` | has sent [`hello`] | finds its own pid there and takes over (`process.entry:1`) |
//! | | sends [`Request`] | has read it (`process.entry:2`) |
//! | `process.spawn:3` | has sent [`Request`] and the arguments | has read them (`process.entry:3`), finds the function, arms its lifeline, applies limits |
//! | `process.spawn:4` | has the [`Answer`]: the start is done | has answered (`process.entry:4`), runs the function |
//! | | | has run it (`process.entry:5`), has sent [`Outcome`] and what belongs to it (`process.entry:6`), exits |
//!
//! A child that is forked, by the fork server or by this process, needs no hello: nobody but it can have its socket. The request and
//! the arguments wait there before it exists, and its answer brings a pidfd of itself. Everything else is the same.
//!
//! Each side polls the socket: the parent together with the child's pidfd and a deadline, so a child that dies, stops or is another
//! program is an error in bounded time; the child reads end-of-file when its parent has died.
//!
//! No report blocks the child: what does not fit the socket's buffer (a large result, a long backtrace) goes through an anonymous
//! file, so a parent may wait for the end first and read afterwards, and a pidfd that is only polled becomes readable.

use crate::inherited::Inherited;
use crate::settings::Settings;
use crate::task::Routine;
use mp_core::socket::{self, Received, TransferError, Until};
use mp_core::{DecodeError, Handle, Identity, Passed, wire};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// The child's mark in the environment: the inode of the socket that it finds as its standard input.
pub(crate) const MARK: &str = "MULTIPROCESS_CHILD";

/// Results up to this length go through the socket's buffer, which is several times as large.
pub(crate) const INLINE: usize = 32 << 10;

/// The first message: a fixed word and the pid, read without being taken until it is known to be meant for this process.
pub(crate) const HELLO: usize = 12;
const WORD: [u8; 8] = *b"MPHELLO1";

pub(crate) fn hello(pid: u32) -> [u8; HELLO] {
    let mut out = [0; HELLO];
    out[..8].copy_from_slice(&WORD);
    out[8..].copy_from_slice(&pid.to_ne_bytes());
    out
}

/// The pid that is meant; `None` when it is no such message.
pub(crate) fn meant(hello: [u8; HELLO]) -> Option<u32> {
    let [word @ .., p0, p1, p2, p3] = hello;
    (word == WORD).then(|| u32::from_ne_bytes([p0, p1, p2, p3]))
}

/// What the child shall be; the arguments follow as a frame of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) job: Job,
    pub(crate) name: String,
    /// In front of the numbers of the child's own children.
    pub(crate) path: String,
    pub(crate) parent: Identity,
    pub(crate) parent_name: String,
    /// For a daemon: ends the child when the other end is closed.
    pub(crate) lifeline: Option<Handle>,
    pub(crate) stdin: Option<Handle>,
    /// What an exec would have put in place.
    pub(crate) inherited: Option<Inherited>,
    pub(crate) settings: Settings,
    /// What the child's own children are started by.
    pub(crate) start_method: u8,
    /// Where the records of its log go.
    #[cfg(feature = "log")]
    pub(crate) log: Option<crate::log_line::LogEnd>,
}

/// What the child shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Run a function.
    Call {
        routine: Routine,
        /// A function to be run before: the fork server's, where there is none that could have run it.
        warm_up: Option<Routine>,
    },
    /// Run the closure that a forked child has in its memory.
    Closure,
    /// Be the fork server.
    Serve(Service),
}

/// What the fork server needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Service {
    /// Where orders come from.
    pub(crate) orders: Handle,
    /// The words in which the children's pids are left.
    pub(crate) births: Handle,
    pub(crate) warm_up: Option<Routine>,
}

/// Whether the child runs the function, and a pidfd of the child where the parent has none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Runs(Option<Handle>),
    Refused(Option<Handle>, String),
    /// From the fork server: there is no child.
    NotForked(NotForked),
}

/// Why the fork server could not fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotForked {
    /// It cannot: its warm-up function has left threads behind, or the kernel lacks what it takes.
    Unfit,
    /// This error of the system.
    System(i32),
}

/// How the function ended. What belongs to it follows as a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// It returned: its result.
    Returned,
    /// A [`Panic`](crate::Panic).
    Panicked,
    /// Why the arguments could not be decoded.
    Arguments,
    /// Why the result could not be encoded.
    Unencodable,
}

/// The frame before the last; the bytes of the last are in the file when there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) file: Option<Passed<File>>,
}

#[derive(Debug)]
pub(crate) enum ReceiveError {
    Transfer(TransferError),
    Decode(DecodeError),
}

impl From<TransferError> for ReceiveError {
    fn from(error: TransferError) -> ReceiveError {
        ReceiveError::Transfer(error)
    }
}

pub(crate) fn send<T: Serialize + 'static>(
    socket: &OwnedFd,
    value: &T,
    until: &Until<'_>,
) -> Result<(), TransferError> {
    let mut scratch = Vec::new();
    let message =
        wire::encode(value, &mut scratch).map_err(|error| TransferError::Io(std::io::Error::other(error)))?;
    socket::send(socket.as_fd(), message, until)
}

pub(crate) fn receive<T: DeserializeOwned + 'static>(
    socket: &OwnedFd,
    until: &Until<'_>,
) -> Result<T, ReceiveError> {
    let Received { encoding, bytes, handles } = socket::receive(socket.as_fd(), until)?;
    wire::decode(encoding, Cow::Owned(bytes), handles).map_err(ReceiveError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_names_its_process() {
        assert_eq!(meant(hello(4711)), Some(4711));
        assert_eq!(meant([0; HELLO]), None);
    }
}
