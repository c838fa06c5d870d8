//! How a task can fail, and a pool.

use mp_core::{DecodeError, EncodeError};
use mp_process::backtrace::Crash;
use mp_process::{ExitStatus, Panic, SpawnError};
use std::{error, fmt, io};

/// The signal at the soft limit of processor time; the same number on every Linux.
const SIGXCPU: i32 = 24;

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
    /// It overflowed its stack.
    StackOverflow,
    /// It used up its [limit](crate::Builder::limit) of processor time.
    CpuTime,
    /// The pool ended it, for this reason.
    Killed(Reason),
    /// Somebody else has taken its exit status.
    Unknown,
}

/// Why the pool ended a worker of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Its task ran past its time-out.
    TimedOut,
    /// Its task's deadline passed.
    Deadline,
    /// Its task was cancelled, and did not end by itself.
    Cancelled,
    /// It did not begin with what it was sent: stopped, or stuck.
    Stalled,
    /// It closed its end of the line to the pool: a task that closes descriptors which it has not opened.
    LineClosed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::TimedOut => "its task ran past its time-out",
            Reason::Deadline => "its task's deadline passed",
            Reason::Cancelled => "its task was cancelled",
            Reason::Stalled => "it did not begin with its task",
            Reason::LineClosed => "it closed its line to the pool",
        })
    }
}

/// What a worker left behind when it died under a task.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Its process id, which may belong to another process by now.
    pub pid: u32,
    /// The last 64 KiB that it wrote to its standard error: the backtrace of a failed allocation too.
    pub stderr: String,
    /// The last 64 KiB of its standard output, where the pool [passes that on](crate::Builder::capture_stdout).
    pub stdout: String,
    /// Where it was when it crashed: after SIGSEGV, SIGBUS, SIGABRT (an `abort`), SIGILL, SIGFPE, SIGTRAP, SIGSYS, or with its stack full. Its
    /// text names functions, files and lines.
    pub backtrace: Option<Crash>,
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
            Cause::CpuTime => f.write_str("it used up its processor time"),
            Cause::Killed(reason) => write!(f, "the pool ended it: {reason}"),
            Cause::Unknown => f.write_str("its exit status was taken by others"),
        }
    }
}

impl Cause {
    /// What `status` and what the worker left behind tell.
    pub(crate) fn of(status: ExitStatus, report: &Report) -> Cause {
        let overflowed = report.backtrace.as_ref().is_some_and(Crash::overflowed_stack);
        match status {
            ExitStatus::Code(code) => Cause::Exit(code),
            ExitStatus::Signal { .. } if report.stderr.lines().any(tells_of_memory) => Cause::Memory,
            ExitStatus::Signal { .. } if overflowed || report.stderr.contains("has overflowed its stack") => {
                Cause::StackOverflow
            }
            ExitStatus::Signal { number: SIGXCPU, .. } => Cause::CpuTime,
            ExitStatus::Signal { number, core } => match &report.backtrace {
                // It died of looking at its stack, not of what it died of.
                Some(crash) if !crash.is_complete() => Cause::Signal { number: crash.signal(), core },
                _ => Cause::Signal { number, core },
            },
            _ => Cause::Unknown,
        }
    }
}

/// The standard library's last words, perhaps with a backtrace behind them.
fn tells_of_memory(line: &str) -> bool {
    line.starts_with("memory allocation of ") && line.ends_with(" bytes failed")
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
        /// What the worker left behind.
        report: Box<Report>,
    },
    /// It was [retried](crate::TaskOptions::retry) and failed each time: after so many tries it is the task that is bad, not the luck.
    Poison {
        /// The function's name.
        function: &'static str,
        /// How each attempt ended, the first one first.
        attempts: Vec<TaskError>,
    },
    /// It ran longer than its time-out; its worker was killed and replaced.
    TimedOut,
    /// It did not start within its [queue time-out](crate::TaskOptions::queue_timeout).
    QueueTimedOut,
    /// It was not done by its [deadline](crate::TaskOptions::deadline). If it ran, its worker was killed and replaced.
    DeadlinePassed,
    /// It was cancelled, or the pool was terminated before it was done, or nobody wanted its result any more.
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
            TaskError::Poison { function, attempts } => {
                write!(f, "the task `{function}` failed in each of {} attempts", attempts.len())?;
                attempts.last().map_or(Ok(()), |last| write!(f, "; the last time: {last}"))
            }
            TaskError::QueueTimedOut => f.write_str("the task did not start within its queue time-out"),
            TaskError::DeadlinePassed => f.write_str("the task was not done by its deadline"),
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
            TaskError::Poison { attempts, .. } => attempts.last().map(|last| last as _),
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
    /// A number that must be one or more was zero; this is its name.
    Zero(&'static str),
    /// A pool in a worker of a pool in a worker, and so on: deeper than [allowed](crate::Builder::max_depth).
    TooDeep(u32),
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
            PoolError::Zero(what) => write!(f, "{what} must be one or more"),
            PoolError::TooDeep(depth) => write!(
                f,
                "pools nested {depth} deep: does a task make the pool that runs it? raise `max_depth` if this is meant"
            ),
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
