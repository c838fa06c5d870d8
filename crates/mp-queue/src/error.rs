//! What can go wrong when putting and getting.

use mp_core::{DecodeError, EncodeError, not_yet_or_failed};
use std::{error, fmt, io};

/// Why a value was not put. It comes back with the error: [`into_inner`](PutError::into_inner).
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was closed.
    Closed(T),
    /// All receivers are gone: dropped, or their processes died.
    Disconnected(T),
    /// The kernel's budget for handles in flight is used up. Get some, or raise RLIMIT_NOFILE.
    TooManyHandles(T),
    /// The encoded value has 4 GiB or more.
    TooLong(T),
    /// The value cannot be encoded.
    Encode(T, EncodeError),
    /// The system refused: no memory, say.
    Io(T, io::Error),
}

impl<T> PutError<T> {
    /// The value that was not put.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Closed(value)
            | PutError::Disconnected(value)
            | PutError::TooManyHandles(value)
            | PutError::TooLong(value)
            | PutError::Encode(value, _)
            | PutError::Io(value, _) => value,
        }
    }

    /// Whether the queue was closed.
    pub const fn is_closed(&self) -> bool {
        matches!(self, PutError::Closed(_))
    }

    /// Whether all receivers are gone.
    pub const fn is_disconnected(&self) -> bool {
        matches!(self, PutError::Disconnected(_))
    }
}

/// Without the value, which need not be `Debug`.
impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::Disconnected(_) => f.write_str("Disconnected(..)"),
            PutError::TooManyHandles(_) => f.write_str("TooManyHandles(..)"),
            PutError::TooLong(_) => f.write_str("TooLong(..)"),
            PutError::Encode(_, error) => write!(f, "Encode(.., {error:?})"),
            PutError::Io(_, error) => write!(f, "Io(.., {error:?})"),
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Closed(_) => f.write_str("putting on a closed queue"),
            PutError::Disconnected(_) => f.write_str("putting on a queue whose receivers are gone"),
            PutError::TooManyHandles(_) => f.write_str(
                "putting more handles than the kernel keeps in flight; get some first or raise RLIMIT_NOFILE",
            ),
            PutError::TooLong(_) => f.write_str("putting a value of 4 GiB or more; share memory instead"),
            PutError::Encode(_, error) => error.fmt(f),
            PutError::Io(_, error) => write!(f, "put: {error}"),
        }
    }
}

impl<T> error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            PutError::Encode(_, error) => Some(error),
            PutError::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why a value was not put at once.
#[doc(alias = "Full")]
pub enum TryPutError<T> {
    /// The queue is full now.
    Full(T),
    /// It cannot be put at all.
    Failed(PutError<T>),
}

impl<T> fmt::Debug for TryPutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryPutError::Full(_) => f.write_str("Full(..)"),
            TryPutError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// Why a value was not put in time.
pub enum PutTimeoutError<T> {
    /// The queue stayed full until the time was over.
    TimedOut(T),
    /// It cannot be put at all.
    Failed(PutError<T>),
}

impl<T> fmt::Debug for PutTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutTimeoutError::TimedOut(_) => f.write_str("TimedOut(..)"),
            PutTimeoutError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// Why no value was got.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// The queue was closed, and everything put before has been got.
    Closed,
    /// All senders are gone, and everything they put has been got.
    Disconnected,
    /// The value is lost: its handles did not arrive with it.
    HandlesLost,
    /// The value is lost: the kernel could not open its handles here. Raise RLIMIT_NOFILE.
    TooManyHandles,
    /// The value cannot be decoded. It was taken, and the queue goes on.
    Decode(DecodeError),
    /// The system refused, or the shared memory is corrupt.
    Io(io::Error),
}

impl GetError {
    /// Whether the queue was closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, GetError::Closed)
    }

    /// Whether all senders are gone.
    #[must_use]
    pub const fn is_disconnected(&self) -> bool {
        matches!(self, GetError::Disconnected)
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Closed => f.write_str("getting from a closed queue"),
            GetError::Disconnected => f.write_str("getting from a queue whose senders are gone"),
            GetError::HandlesLost => f.write_str("the handles of the value did not arrive"),
            GetError::TooManyHandles => {
                f.write_str("the handles of the value could not be opened here; raise RLIMIT_NOFILE")
            }
            GetError::Decode(error) => error.fmt(f),
            GetError::Io(error) => write!(f, "get: {error}"),
        }
    }
}

impl error::Error for GetError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            GetError::Decode(error) => Some(error),
            GetError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why no bytes were got into a buffer.
#[doc(alias = "BufferTooShort")]
#[derive(Debug)]
pub enum GetBytesIntoError {
    /// The buffer is too small: here is the whole value, which is no longer in the queue.
    TooShort(Vec<u8>),
    /// None can be got.
    Failed(GetError),
}

not_yet_or_failed!(
    GetBytesIntoError,
    TooShort,
    is_too_short,
    "getting a value into a buffer that is too small for it",
    GetError
);

/// Why no value was got at once.
#[doc(alias = "Empty")]
#[derive(Debug)]
pub enum TryGetError {
    /// The queue is empty now.
    Empty,
    /// None can be got.
    Failed(GetError),
}

/// Why no value was got in time.
#[derive(Debug)]
pub enum GetTimeoutError {
    /// The queue stayed empty until the time was over.
    TimedOut,
    /// None can be got.
    Failed(GetError),
}

not_yet_or_failed!(TryPutError<T>, Full, is_full, "putting on a full queue", PutError<T>);
not_yet_or_failed!(
    PutTimeoutError<T>,
    TimedOut,
    is_timeout,
    "timed out putting on a full queue",
    PutError<T>
);
not_yet_or_failed!(TryGetError, Empty, is_empty, "getting from an empty queue", GetError);
not_yet_or_failed!(GetTimeoutError, TimedOut, is_timeout, "timed out getting from an empty queue", GetError);

impl<T> TryPutError<T> {
    /// The value that was not put.
    pub fn into_inner(self) -> T {
        match self {
            TryPutError::Full(value) => value,
            TryPutError::Failed(error) => error.into_inner(),
        }
    }
}

impl<T> PutTimeoutError<T> {
    /// The value that was not put.
    pub fn into_inner(self) -> T {
        match self {
            PutTimeoutError::TimedOut(value) => value,
            PutTimeoutError::Failed(error) => error.into_inner(),
        }
    }
}
