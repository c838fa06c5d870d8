//! Handing a value with its handles to a child of [`std::process::Command`].
//!
//! The child may be any program that knows the name and the type: it need not have been started by these crates.

use crate::socket::{self, TransferError, Until};
use crate::wire::{self, DecodeError, EncodeError};
use crate::{Deadline, sys};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

const PREFIX: &str = "MULTIPROCESS_GIVEN_";

/// Why a value could not be handed over.
#[derive(Debug)]
#[non_exhaustive]
pub enum GiveError {
    /// The value cannot be encoded.
    Encode(EncodeError),
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for GiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GiveError::Encode(error) => error.fmt(f),
            GiveError::Io(error) => write!(f, "hand a value to a child process: {error}"),
        }
    }
}

impl std::error::Error for GiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GiveError::Encode(error) => Some(error),
            GiveError::Io(error) => Some(error),
        }
    }
}

/// Why nothing could be taken over.
#[derive(Debug)]
#[non_exhaustive]
pub enum TakeError {
    /// The parent gave nothing under this name, or it was taken before.
    Missing(String),
    /// What the parent gave is of another type.
    Decode(DecodeError),
    /// The parent died before it had given everything, or the system refused.
    Io(io::Error),
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TakeError::Missing(name) => {
                write!(
                    f,
                    "nothing was given under the name `{name}`: call `give` on the command that starts this program"
                )
            }
            TakeError::Decode(error) => error.fmt(f),
            TakeError::Io(error) => write!(f, "take over what the parent gave: {error}"),
        }
    }
}

impl std::error::Error for TakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TakeError::Missing(_) => None,
            TakeError::Decode(error) => Some(error),
            TakeError::Io(error) => Some(error),
        }
    }
}

/// Gives `value`, with every handle in it, to the child that `command` will start; the child calls [`take`] with the
/// same name and type.
///
/// The value is for one child: start the command once. Handles stay open until `command` is dropped.
///
/// # Errors
///
/// Fails when the value cannot be encoded, or when no descriptors are left.
pub fn give<T: Serialize + 'static>(command: &mut Command, name: &str, value: &T) -> Result<(), GiveError> {
    let mut scratch = Vec::new();
    let message = wire::encode(value, &mut scratch).map_err(GiveError::Encode)?;
    let (ours, theirs) = UnixStream::pair().map_err(GiveError::Io)?;
    let theirs = OwnedFd::from(theirs);
    let inode = rustix::fs::fstat(&theirs).map_err(|error| GiveError::Io(error.into()))?.st_ino;
    let header = socket::Header::of(&message);
    let fds = message.handles.shared();
    let bytes = message.bytes.to_vec();
    // What the socket's buffer holds goes at once; the rest needs a reader, so a thread feeds it. The thread ends when
    // the child has read everything, or when all copies of the child's end are closed.
    let feed = move || {
        let until = Until { deadline: Deadline::NEVER, gone: None };
        // A child that dies or never takes it leaves nobody to tell.
        let _ = socket::send_parts(ours.as_fd(), header, &bytes, &fds, &until);
    };
    if message.bytes.len() < 32 * 1024 && message.handles.len() < 128 {
        feed();
    } else {
        thread::Builder::new().name("mp-give".into()).spawn(feed).map_err(GiveError::Io)?;
    }
    use std::os::fd::AsRawFd;
    command.env(format!("{PREFIX}{name}"), format!("{}:{inode}", theirs.as_raw_fd()));
    sys::inherit(command, theirs);
    message.handles.sent();
    Ok(())
}

/// Takes what the parent [`give`]s under `name`. Each value can be taken once.
///
/// # Errors
///
/// Fails when nothing was given under that name, or something of another type.
pub fn take<T: DeserializeOwned + 'static>(name: &str) -> Result<T, TakeError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let missing = || TakeError::Missing(name.to_owned());
    let place = std::env::var(format!("{PREFIX}{name}")).map_err(|_| missing())?;
    let (number, inode) = place.split_once(':').ok_or_else(missing)?;
    let (number, inode) = (number.parse().map_err(|_| missing())?, inode.parse().map_err(|_| missing())?);
    let socket = {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        sys::take_inherited_socket(number, inode).map_err(|_| missing())?
    };
    let until = Until { deadline: Deadline::after(Duration::from_secs(60)), gone: None };
    let received = socket::receive(socket.as_fd(), &until).map_err(|error| match error {
        TransferError::Io(error) => TakeError::Io(error),
        other => TakeError::Io(io::Error::other(other.to_string())),
    })?;
    wire::decode(received.encoding, Cow::Owned(received.bytes), received.handles).map_err(TakeError::Decode)
}
