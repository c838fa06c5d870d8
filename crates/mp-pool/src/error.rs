//! How a task can fail, and a pool.

use mp_core::{DecodeError, EncodeError};
use mp_process::{ExitStatus, Panic, SpawnError};
use std::{error, fmt, io};

/// Why a worker died.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It exited with this code in the middle of the task.
    Exit(i32),
    /// A signal ended it: SIGSEGV, SIGABRT, or one that somebody sent.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// An allocation failed: the worker's memory limit, or the machine's memory. Best effort: read from what it wrote last.
    Memory,
    /// It overflowed its stack. Best effort: read from what it wrote last.
    StackOverflow,
    /// Somebody else has taken its exit status.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Exit(code) => write!(f, "it exited with code {code}"),
            Cause::Signal { number, core } => {
                write!(f, "it was ended by {}", ExitStatus::Signal { number: *number, core: *core })
            }
            Cause::Memory => f.write_str("it ran out of memory"),
            Cause::StackOverflow => f.write_str("it overflowed its stack"),
            Cause::Unknown => f.write_str("its exit status was taken by others"),
        }
    }
}

impl Cause {
    /// What `status` and the last lines on standard error tell.
    pub(crate) fn of(status: ExitStatus, tail: &str) -> Cause {
        match status {
            ExitStatus::Code(code) => Cause::Exit(code),
            ExitStatus::Signal { .. } if tail.contains("memory allocation of ") => Cause::Memory,
            ExitStatus::Signal { .. } if tail.contains("has overflowed its stack") => Cause::StackOverflow,
            ExitStatus::Signal { number, core } => Cause::Signal { number, core },
            _ => Cause::Unknown,
        }
    }
}

/// Why a task has no result. Exactly one of these, or its result, comes for each task.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked; the worker goes on.
    Panicked(Panic),
    /// Its worker died while it ran; the worker was replaced. Tasks that had not started ran elsewhere.
    WorkerDied {
        /// How.
        cause: Cause,
        /// What the worker last wrote to its standard error.
        stderr: String,
    },
    /// It ran longer than its time-out; its worker was killed and replaced.
    TimedOut,
    /// The pool was terminated before it was done, or nobody wanted its result any more.
    Cancelled,
    /// The pool broke: its workers could not be started, or its initializer failed in one after the other. This is the last reason.
    Broken(String),
    /// The pool was closed: it takes no more tasks.
    Closed,
    /// The arguments cannot be encoded.
    Encode(EncodeError),
    /// The worker could not decode the arguments; the task did not run.
    Arguments(String),
    /// The result cannot be encoded.
    Unencodable(String),
    /// The result cannot be decoded here.
    Undecodable(DecodeError),
    /// The function lies in no loaded image, or in one that the worker has not loaded.
    UnknownFunction,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked(panic) => write!(f, "the task {panic}"),
            TaskError::WorkerDied { cause, .. } => write!(f, "the worker died under the task: {cause}"),
            TaskError::TimedOut => f.write_str("the task ran longer than its time-out and was killed"),
            TaskError::Cancelled => f.write_str("the task was cancelled before it was done"),
            TaskError::Broken(why) => write!(f, "the pool is broken: {why}"),
            TaskError::Closed => f.write_str("submitting to a closed pool"),
            TaskError::Encode(error) => error.fmt(f),
            TaskError::Arguments(why) => write!(f, "the worker could not take the arguments: {why}"),
            TaskError::Unencodable(why) => write!(f, "the worker could not send the result: {why}"),
            TaskError::Undecodable(error) => error.fmt(f),
            TaskError::UnknownFunction => f.write_str("the function is not known to the worker"),
            TaskError::Io(error) => write!(f, "run a task: {error}"),
        }
    }
}

impl error::Error for TaskError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            TaskError::Encode(error) => Some(error),
            TaskError::Undecodable(error) => Some(error),
            TaskError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a pool was not made, or broke.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no workers.
    NoWorkers,
    /// A worker could not be started.
    Spawn(SpawnError),
    /// The initializer failed in a worker.
    Initializer(String),
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoWorkers => f.write_str("a pool of no workers; it needs one or more"),
            PoolError::Spawn(error) => write!(f, "start a worker: {error}"),
            PoolError::Initializer(why) => write!(f, "the initializer failed in a worker: {why}"),
            PoolError::Io(error) => write!(f, "make a pool: {error}"),
        }
    }
}

impl error::Error for PoolError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            PoolError::Spawn(error) => Some(error),
            PoolError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<SpawnError> for PoolError {
    fn from(error: SpawnError) -> PoolError {
        PoolError::Spawn(error)
    }
}

impl From<io::Error> for PoolError {
    fn from(error: io::Error) -> PoolError {
        PoolError::Io(error)
    }
}
