//! Why a process did not start, or gave no result.

use crate::status::ExitStatus;
use mp_core::socket::TransferError;
use mp_core::{DecodeError, EncodeError};
use serde::{Deserialize, Serialize};
use std::{error, fmt, io};

/// Why a process was not started. Nothing of it is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// `init()` has not run in this program.
    NotInitialized,
    /// The arguments cannot be encoded.
    Encode(EncodeError),
    /// The function lies in no loaded image, so another process could not find it.
    NoImage,
    /// The process ended before it had reached `init()` and taken its arguments.
    Died(ExitStatus),
    /// The process did not reach `init()` in time (stopped, or `main` does something long before `init()`); it was killed.
    TimedOut,
    /// The process was reached and refused.
    Refused(String),
    /// The fork server ended again and again before it had forked: most likely by what its warm-up function does.
    ForkServer(ExitStatus),
    /// The arguments hold more handles than the kernel keeps in flight; raise RLIMIT_NOFILE.
    TooManyHandles,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::NotInitialized => f.write_str(
                "starting a process in a program that has not called `init()`: make it the first line of `main`, before \
                 anything else (in tests: `enable_test_support!()` in the crate)",
            ),
            SpawnError::Encode(error) => error.fmt(f),
            SpawnError::NoImage => f.write_str("the function lies in no program or library that is loaded"),
            SpawnError::Died(status) => write!(
                f,
                "the process ended before it reached `init()`, with {status}; `init()` must be the first line of `main`"
            ),
            SpawnError::TimedOut => f.write_str(
                "the process did not reach `init()` in time and was killed; `init()` must be the first line of `main`",
            ),
            SpawnError::Refused(why) => write!(f, "the new process refused: {why}"),
            SpawnError::ForkServer(status) => write!(
                f,
                "the fork server ended before it had forked, with {status}; look at its warm-up function, or start with \
                 `StartMethod::Spawn`"
            ),
            SpawnError::TooManyHandles => {
                f.write_str("the arguments hold more handles than the kernel keeps in flight; raise RLIMIT_NOFILE")
            }
            SpawnError::Io(error) => write!(f, "start a process: {error}"),
        }
    }
}

impl error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            SpawnError::Encode(error) => Some(error),
            SpawnError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> SpawnError {
        SpawnError::Io(error)
    }
}

impl From<TransferError> for SpawnError {
    fn from(error: TransferError) -> SpawnError {
        match error {
            TransferError::TimedOut => SpawnError::TimedOut,
            TransferError::TooManyHandles => SpawnError::TooManyHandles,
            TransferError::Io(error) => SpawnError::Io(error),
            other => SpawnError::Io(io::Error::other(other.to_string())),
        }
    }
}

/// What a function said when it panicked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Panic {
    /// The panic's message.
    pub message: String,
    /// Where, as `file:line:column`.
    pub location: String,
    /// The stack at that moment, symbolised in the process that panicked.
    pub backtrace: String,
}

impl Panic {
    /// For those that run functions on others' behalf, and report.
    #[doc(hidden)]
    #[must_use]
    pub fn new(message: String, location: String, backtrace: String) -> Panic {
        Panic { message, location, backtrace }
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.location, self.message)
    }
}

/// The last that a process wrote before it ended, as far as it was [kept](crate::Stdio::Tail).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastWords {
    /// On standard output.
    pub stdout: Option<Vec<u8>>,
    /// On standard error.
    pub stderr: Option<Vec<u8>>,
}

impl fmt::Display for LastWords {
    /// Each kept stream that is not empty, on lines of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bytes) in [("output", &self.stdout), ("error", &self.stderr)] {
            let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default());
            if !text.trim().is_empty() {
                write!(f, "\nits standard {name} ends with:\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// Why a process that has ended gave no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It exited with this code before its function returned.
    Exit(i32, LastWords),
    /// A signal ended it.
    #[non_exhaustive]
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
        /// What it wrote last.
        last_words: LastWords,
    },
    /// Its function panicked.
    Panicked(Panic),
    /// It could not decode its arguments; the function did not run.
    Arguments(String),
    /// Its function returned something that cannot be encoded.
    Unencodable(String),
    /// Its result cannot be decoded here.
    Undecodable(DecodeError),
    /// It ended without a result, and somebody else has taken its exit status.
    Unknown(LastWords),
    /// The system refused.
    Io(io::Error),
}

impl JoinError {
    pub(crate) fn without_result(status: ExitStatus, last_words: LastWords) -> JoinError {
        match status {
            ExitStatus::Code(code) => JoinError::Exit(code, last_words),
            ExitStatus::Signal { number, core } => JoinError::Signal { number, core, last_words },
            ExitStatus::Unknown => JoinError::Unknown(last_words),
        }
    }

    /// What it wrote last, if it ended without a report.
    #[must_use]
    pub fn last_words(&self) -> Option<&LastWords> {
        match self {
            JoinError::Exit(_, last_words)
            | JoinError::Signal { last_words, .. }
            | JoinError::Unknown(last_words) => Some(last_words),
            _ => None,
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Exit(code, last_words) => {
                write!(f, "the process ended without a result, with exit code {code}{last_words}")
            }
            JoinError::Signal { number, core, last_words } => {
                let status = ExitStatus::Signal { number: *number, core: *core };
                write!(f, "the process was ended by {status}{last_words}")
            }
            JoinError::Panicked(panic) => write!(f, "the process {panic}"),
            JoinError::Arguments(why) => write!(f, "the process could not take its arguments: {why}"),
            JoinError::Unencodable(why) => write!(f, "the process could not send its result: {why}"),
            JoinError::Undecodable(error) => error.fmt(f),
            JoinError::Unknown(last_words) => {
                let text = "the process ended without a result, and its exit status was taken by others";
                write!(f, "{text}{last_words}")
            }
            JoinError::Io(error) => write!(f, "join a process: {error}"),
        }
    }
}

impl error::Error for JoinError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            JoinError::Undecodable(error) => Some(error),
            JoinError::Io(error) => Some(error),
            _ => None,
        }
    }
}
