//! Why a named segment could not be had.

use std::error::Error;
use std::{fmt, io};

/// Why a named segment could not be created.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// No name: it is empty or too long, or has a `/` inside or a NUL.
    InvalidName(String),
    /// A segment has at least one byte.
    ZeroSize,
    /// The name is taken.
    Exists(String),
    /// The system refused.
    Io(io::Error),
}

/// Why a named segment could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// No name: it is empty or too long, or has a `/` inside or a NUL.
    InvalidName(String),
    /// Nothing has that name, or it is just being removed.
    NotFound(String),
    /// Another program has made the name and not given it a size yet: ask again later.
    Unfinished(String),
    /// The system refused.
    Io(io::Error),
}

fn invalid_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    write!(
        f,
        "{name:?} is no name for shared memory: up to 255 bytes, at most one `/` in front and none inside"
    )
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::InvalidName(name) => invalid_name(f, name),
            CreateError::ZeroSize => f.write_str("shared memory of no bytes"),
            CreateError::Exists(name) => {
                write!(f, "shared memory `{name}` exists already: open it, or remove the name first")
            }
            CreateError::Io(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InvalidName(name) => invalid_name(f, name),
            OpenError::NotFound(name) => write!(f, "no shared memory has the name `{name}`"),
            OpenError::Unfinished(name) => {
                write!(f, "shared memory `{name}` has no size yet: the program that makes it is not done")
            }
            OpenError::Io(error) => error.fmt(f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CreateError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            OpenError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> io::Error {
        let kind = match error {
            CreateError::Io(error) => return error,
            CreateError::InvalidName(_) | CreateError::ZeroSize => io::ErrorKind::InvalidInput,
            CreateError::Exists(_) => io::ErrorKind::AlreadyExists,
        };
        io::Error::new(kind, error)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> io::Error {
        let kind = match error {
            OpenError::Io(error) => return error,
            OpenError::InvalidName(_) => io::ErrorKind::InvalidInput,
            OpenError::NotFound(_) => io::ErrorKind::NotFound,
            OpenError::Unfinished(_) => io::ErrorKind::WouldBlock,
        };
        io::Error::new(kind, error)
    }
}
