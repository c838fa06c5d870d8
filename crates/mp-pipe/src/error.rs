//! What can go wrong when sending and receiving.

use mp_core::{DecodeError, EncodeError, not_yet_or_failed};
use std::{error, fmt, io};

/// Why a value was not sent. It comes back with the error: [`into_inner`](SendError::into_inner).
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The other end is gone: closed, or its process has died.
    Disconnected(T),
    /// This end was sent to another process.
    Moved(T),
    /// Another living process uses this end; an end has one user.
    InUse(T),
    /// The kernel's budget for handles in flight, or this process's for open ones, is used up. Receive some, or raise
    /// RLIMIT_NOFILE.
    TooManyHandles(T),
    /// The encoded value has 4 GiB or more.
    TooLong(T),
    /// The value cannot be encoded.
    Encode(T, EncodeError),
    /// The system refused: no memory, say.
    Io(T, io::Error),
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Disconnected(value)
            | SendError::Moved(value)
            | SendError::InUse(value)
            | SendError::TooManyHandles(value)
            | SendError::TooLong(value)
            | SendError::Encode(value, _)
            | SendError::Io(value, _) => value,
        }
    }

    /// Whether the other end is gone.
    pub const fn is_disconnected(&self) -> bool {
        matches!(self, SendError::Disconnected(_))
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Disconnected(_) => f.write_str("sending to an end that is gone"),
            SendError::Moved(_) => f.write_str("sending on an end that was sent to another process"),
            SendError::InUse(_) => {
                f.write_str("sending on an end that another process uses; a queue has room for several")
            }
            SendError::TooManyHandles(_) => f.write_str(
                "sending more handles than the kernel keeps in flight; receive some first or raise RLIMIT_NOFILE",
            ),
            SendError::TooLong(_) => f.write_str("sending a message of 4 GiB or more; share memory instead"),
            SendError::Encode(_, error) => error.fmt(f),
            SendError::Io(_, error) => write!(f, "send: {error}"),
        }
    }
}

impl<T: fmt::Debug> error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            SendError::Encode(_, error) => Some(error),
            SendError::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why a value was not sent at once.
#[derive(Debug)]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// It cannot be sent at all.
    Failed(SendError<T>),
}

/// Why a value was not sent in time.
#[derive(Debug)]
pub enum SendTimeoutError<T> {
    /// There was no room until the time was over.
    TimedOut(T),
    /// It cannot be sent at all.
    Failed(SendError<T>),
}

/// Why nothing was received.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The other end is gone, and everything it sent has been received.
    Disconnected,
    /// This end was sent to another process.
    Moved,
    /// Another living process uses this end; an end has one user.
    InUse,
    /// The message is lost: its handles went with a process that died while it received them.
    HandlesLost,
    /// The message is lost: the kernel could not open its handles here. Raise RLIMIT_NOFILE.
    TooManyHandles,
    /// The message is of another type; it was taken, and the next one can be received.
    Decode(DecodeError),
    /// The system refused, or the shared memory is corrupt.
    Io(io::Error),
}

impl RecvError {
    /// Whether the other end is gone.
    #[must_use]
    pub const fn is_disconnected(&self) -> bool {
        matches!(self, RecvError::Disconnected)
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Disconnected => f.write_str("receiving from an end that is gone"),
            RecvError::Moved => f.write_str("receiving on an end that was sent to another process"),
            RecvError::InUse => {
                f.write_str("receiving on an end that another process uses; a queue has room for several")
            }
            RecvError::HandlesLost => f.write_str("the handles of the message went with a process that died"),
            RecvError::TooManyHandles => {
                f.write_str("the handles of the message could not be opened here; raise RLIMIT_NOFILE")
            }
            RecvError::Decode(error) => error.fmt(f),
            RecvError::Io(error) => write!(f, "receive: {error}"),
        }
    }
}

impl error::Error for RecvError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            RecvError::Decode(error) => Some(error),
            RecvError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why nothing was received at once.
#[derive(Debug)]
pub enum TryRecvError {
    /// There is no message now.
    Empty,
    /// None can be received.
    Failed(RecvError),
}

/// Why nothing was received in time.
#[derive(Debug)]
pub enum RecvTimeoutError {
    /// No message came until the time was over.
    TimedOut,
    /// None can be received.
    Failed(RecvError),
}

not_yet_or_failed!(TrySendError<T: fmt::Debug>, Full, is_full, "sending on a full pipe", SendError<T>);
not_yet_or_failed!(
    SendTimeoutError<T: fmt::Debug>,
    TimedOut,
    is_timeout,
    "timed out sending on a full pipe",
    SendError<T>
);
not_yet_or_failed!(TryRecvError, Empty, is_empty, "receiving on an empty pipe", RecvError);
not_yet_or_failed!(RecvTimeoutError, TimedOut, is_timeout, "timed out receiving on an empty pipe", RecvError);

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) => value,
            TrySendError::Failed(error) => error.into_inner(),
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::TimedOut(value) => value,
            SendTimeoutError::Failed(error) => error.into_inner(),
        }
    }
}

/// Why no message was received into a buffer.
#[derive(Debug)]
pub enum RecvBytesIntoError {
    /// The buffer is too small: here is the whole message, which is no longer in the pipe.
    TooShort(Vec<u8>),
    /// None can be received.
    Failed(RecvError),
}

not_yet_or_failed!(
    RecvBytesIntoError,
    TooShort,
    is_too_short,
    "receiving a message into a buffer that is too small for it",
    RecvError
);
