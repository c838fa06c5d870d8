//! What parent and child say to each other over the socket that the child inherits.
//!
//! | step | parent | child |
//! | --- | --- | --- |
//! | `process.spawn:1` | the process exists | starts up, reaches `init()` (`process.entry:1`) |
//! | `process.spawn:2` | has sent [`Hello`] | compares the pid (`process.entry:2`) |
//! | `process.spawn:3` | has sent [`Request`] and the arguments | applies limits, arms its lifeline, finds the function (`process.entry:3`) |
//! | `process.spawn:4` | has the [`Answer`]: the start is done | has answered (`process.entry:4`), runs the function |
//! | | | has run it (`process.entry:5`), has sent [`Outcome`] and result (`process.entry:6`), exits |
//!
//! Each side polls the socket: the parent together with the child's pidfd and a deadline, so a child that dies, stops or is another
//! program is an error in bounded time; the child reads end-of-file when its parent has died.
//!
//! The result never blocks the child: what does not fit the socket's buffer goes through an anonymous file, so a parent may
//! wait for the end first and read afterwards.

use crate::error::Panic;
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

/// The first message: proves that the mark in the environment was meant for this process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) pid: u32,
}

/// What the child shall be; the arguments follow as a frame of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) routine: Routine,
    pub(crate) name: String,
    /// In front of the numbers of the child's own children.
    pub(crate) path: String,
    pub(crate) parent: Identity,
    pub(crate) parent_name: String,
    /// For a daemon: ends the child when the other end is closed.
    pub(crate) lifeline: Option<Handle>,
    pub(crate) stdin: Option<Handle>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) core_dump: Option<bool>,
}

/// Whether the child runs the function.
pub(crate) type Answer = Result<(), String>;

/// How the function ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It returned; the result follows as a frame, its bytes in the file when there is one.
    Returned(Option<Passed<File>>),
    Panicked(Panic),
    Arguments(String),
    Unencodable(String),
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
