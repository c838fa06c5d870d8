//! The standard streams of a process: what they are, and the two ends of each.

use crate::builder::Builder;
use crate::sys::process as sys;
use crate::tail::Tail;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;

/// What a standard stream of a process is.
///
/// A [`File`], an [`OwnedFd`], a pipe's end and the streams of other children become one with [`From`]:
/// `builder.stdout(File::create("log")?)`. All processes that a builder starts then share that file, with one position.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The same as this process's.
    Inherit,
    /// Empty for reading, swallowed for writing.
    Null,
    /// A pipe to this process.
    Piped,
    /// For output: read by this process as it comes, so that the child never waits for a reader, and the last so many bytes are kept.
    ///
    /// They are there at any time, also after the process has died: [`stdout_tail`](crate::Process::stdout_tail) and
    /// [`stderr_tail`](crate::Process::stderr_tail) give them, and the [`JoinError`](crate::JoinError) of a process that ended without a
    /// result shows them. A thread of this process reads for all children; when this process has ended, writing is an error
    /// there, as on any pipe without a reader.
    Tail(usize),
    /// An open file, pipe or socket.
    Fd(Arc<OwnedFd>),
}

macro_rules! from {
    ($($owner:ty),*) => {
        $(impl From<$owner> for Stdio {
            fn from(stream: $owner) -> Stdio {
                Stdio::Fd(Arc::new(stream.into()))
            }
        })*
    };
}

from!(OwnedFd, File, PipeReader, PipeWriter, ChildStdin, ChildStdout, ChildStderr);

/// What the child gets.
#[derive(Debug)]
pub(crate) struct ChildStreams {
    /// Empty without.
    pub(crate) stdin: Option<OwnedFd>,
    /// As this process's without.
    pub(crate) stdout: Option<OwnedFd>,
    /// As this process's without.
    pub(crate) stderr: Option<OwnedFd>,
}

/// What this process keeps.
#[derive(Debug)]
pub(crate) struct OwnStreams {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) tails: Tails,
}

/// The kept ends of what a child writes.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    pub(crate) stdout: Option<Tail>,
    pub(crate) stderr: Option<Tail>,
    #[cfg(feature = "log")]
    pub(crate) log: Option<crate::log_line::LogLine>,
}

/// Opens what `builder` asks for; all of it above the standard streams, whose numbers may be free here and are put in place by
/// number there.
pub(crate) fn open(builder: &Builder) -> io::Result<(ChildStreams, OwnStreams)> {
    let (stdin, own_stdin) = input(&builder.stdin)?;
    let (stdout, own_stdout, stdout_tail) = output(&builder.stdout)?;
    let (stderr, own_stderr, stderr_tail) = output(&builder.stderr)?;
    let tails = Tails {
        stdout: stdout_tail,
        stderr: stderr_tail,
        #[cfg(feature = "log")]
        log: None,
    };
    let own = OwnStreams { stdin: own_stdin, stdout: own_stdout, stderr: own_stderr, tails };
    Ok((ChildStreams { stdin, stdout, stderr }, own))
}

fn input(stdio: &Stdio) -> io::Result<(Option<OwnedFd>, Option<ChildStdin>)> {
    Ok(match stdio {
        Stdio::Null => (None, None),
        // Closed here is empty there.
        Stdio::Inherit => (unless_closed(io::stdin().as_fd())?, None),
        Stdio::Piped => {
            let (reader, writer) = sys::pipe()?;
            (Some(reader), Some(ChildStdin::from(writer)))
        }
        Stdio::Tail(_) => {
            let text = "a standard input has no tail to keep";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Stdio::Fd(fd) => (Some(sys::above_streams(fd.try_clone()?)?), None),
    })
}

/// A copy of `stream` above the standard streams; none where it is closed here.
pub(crate) fn unless_closed(stream: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match stream.try_clone_to_owned() {
        Ok(copy) => Ok(Some(copy)),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The child's standard output or error; this process's end of a pipe; the tail that is kept.
fn output<R: From<OwnedFd>>(stdio: &Stdio) -> io::Result<(Option<OwnedFd>, Option<R>, Option<Tail>)> {
    Ok(match stdio {
        Stdio::Inherit => (None, None, None),
        Stdio::Null => {
            let null = File::options().write(true).open("/dev/null")?;
            (Some(sys::above_streams(null.into())?), None, None)
        }
        Stdio::Piped => {
            let (reader, writer) = sys::pipe()?;
            (Some(writer), Some(reader.into()), None)
        }
        Stdio::Tail(length) => {
            let (reader, writer) = sys::pipe()?;
            (Some(writer), None, Some(Tail::of(reader, *length)?))
        }
        Stdio::Fd(fd) => (Some(sys::above_streams(fd.try_clone()?)?), None, None),
    })
}
