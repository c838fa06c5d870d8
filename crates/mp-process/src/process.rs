//! The handle of a process.

use crate::builder::Builder;
use crate::child::Child;
use crate::error::{JoinError, SpawnError};
use crate::launch::Launched;
use crate::registry;
use crate::status::ExitStatus;
use crate::streams::OwnStreams;
use crate::task::Task;
use mp_core::{Deadline, Waitable, park};
use rustix::process::Signal;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{error, fmt, io};

/// A process that runs a function, whose result has type `R`.
///
/// Waiting, joining and ending it work from any thread. Its [`AsFd`] descriptor is readable once it has ended.
///
/// Dropping the handle leaves the process running: it is reaped in the background, and unless it is a daemon this process
/// waits for it at its own normal end ([`detach`](Process::detach) opts out of that).
///
/// | killed | what the others get |
/// | --- | --- |
/// | the process, at any moment | `join` gives [`JoinError::Signal`]; nobody hangs |
/// | the process, before it has its arguments | `spawn` gives [`SpawnError::Died`] |
/// | this process | a daemon ends at once; any other lives on |
#[doc(alias = "multiprocessing.Process")]
pub struct Process<R> {
    /// `None` once the child has left this handle: joined, detached or dropped.
    child: Option<Arc<Child>>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// Pipes that nobody took, once a future waits.
    #[cfg(feature = "async")]
    forgotten: Vec<crate::tail::Tail>,
    result: PhantomData<fn() -> R>,
}

/// The process has not ended in time; the handle comes back in it.
pub struct Running<R>(pub Process<R>);

/// Why [`Process::join_timeout`] gave no result.
pub enum JoinTimeoutError<R> {
    /// It has not ended in time and runs on; the handle comes back.
    Running(Process<R>),
    /// It has ended without a result.
    Failed(JoinError),
}

impl Process<()> {
    /// Options for a process.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a process that runs `function` with `args`, a tuple of up to eight values and handles.
    ///
    /// Returns once the process has its arguments and is about to run. What crosses is what serde carries (with `postcard`), and
    /// every handle of these crates, which is the same queue, lock or memory there.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; no process is left then.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use mp_process::Process;
    ///
    /// fn add(a: u32, b: u32) -> u32 {
    ///     a + b
    /// }
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     mp_process::init();
    ///     assert_eq!(Process::spawn(add, (2, 3))?.join()?, 5);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// The function itself, not its result, and a tuple also for one argument:
    ///
    /// ```compile_fail,E0277
    /// fn show(text: String) {}
    /// let process = mp_process::Process::spawn(show("x".to_owned()), ()).unwrap();
    /// ```
    ///
    /// ```compile_fail,E0308
    /// fn show(text: String) {}
    /// let process = mp_process::Process::spawn(show, "x".to_owned()).unwrap();
    /// ```
    #[doc(alias = "start")]
    pub fn spawn<F, Args>(function: F, args: Args) -> Result<Process<F::Output>, SpawnError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        Builder::default().spawn(function, args)
    }
}

impl<R> Process<R> {
    pub(crate) fn new(launched: Launched) -> Process<R> {
        let Launched { child, streams: OwnStreams { stdin, stdout, stderr, tails: _ } } = launched;
        Process {
            child: Some(child),
            stdin,
            stdout,
            stderr,
            #[cfg(feature = "async")]
            forgotten: Vec::new(),
            result: PhantomData,
        }
    }

    pub(crate) fn child(&self) -> &Arc<Child> {
        self.child.as_ref().expect("a handle has its child until it is consumed")
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child().pid
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.child().name
    }

    /// Whether it ends with this process.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.child().daemon
    }

    /// Whether it has not ended. Once false, always false.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.child().try_status(), Ok(None))
    }

    /// How it ended; `None` while it runs.
    #[doc(alias = "exitcode")]
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_status().ok().flatten()
    }

    /// Waits until it has ended. The result stays, for [`join`](Process::join).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        // Without a deadline the wait ends only with a status or an error.
        self.child().wait(Deadline::NEVER).map(|status| status.unwrap_or(ExitStatus::Unknown))
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.child().try_status()
    }

    /// Waits at most `timeout` until it has ended; `None` when it runs on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.child().wait(Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Process::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait_deadline(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        self.child().wait(Deadline::at(deadline))
    }

    /// Asks it to end: SIGTERM, which ends it at once unless it handles or blocks it.
    ///
    /// # Errors
    ///
    /// What the system says; a process that has ended is no error.
    pub fn terminate(&self) -> io::Result<()> {
        self.child().signal(Signal::TERM)
    }

    /// Ends it at once: SIGKILL.
    ///
    /// # Errors
    ///
    /// What the system says; a process that has ended is no error.
    pub fn kill(&self) -> io::Result<()> {
        self.child().signal(Signal::KILL)
    }

    /// Interrupts it, as the terminal's Ctrl-C does: SIGINT.
    ///
    /// # Errors
    ///
    /// What the system says; a process that has ended is no error.
    pub fn interrupt(&self) -> io::Result<()> {
        self.child().signal(Signal::INT)
    }

    /// Lets go of a process that has ended, gently: its result is not wanted.
    ///
    /// # Errors
    ///
    /// [`Running`] with the handle while it has not ended.
    pub fn close(self) -> Result<ExitStatus, Running<R>> {
        match self.exit_status() {
            Some(status) => Ok(status),
            None => Err(Running(self)),
        }
    }

    /// Lets it run on by itself: this process does not wait for it at its end. It is still reaped.
    pub fn detach(self) {
        self.child().released.store(true, Ordering::Relaxed);
    }

    /// The pipe to its standard input, if one was asked for.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The pipe from its standard output, if one was asked for.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The pipe from its standard error, if one was asked for.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }
}

impl<R> Process<R> {
    /// The last bytes that it has written to standard output so far, if [they are kept](crate::Stdio::Tail). Once it has ended, all
    /// that it wrote counts.
    #[must_use]
    pub fn stdout_tail(&self) -> Option<Vec<u8>> {
        self.child().last_words().stdout
    }

    /// The last bytes that it has written to standard error so far, if [they are kept](crate::Stdio::Tail). Once it has ended, all
    /// that it wrote counts.
    #[must_use]
    pub fn stderr_tail(&self) -> Option<Vec<u8>> {
        self.child().last_words().stderr
    }
}

impl<R: DeserializeOwned + 'static> Process<R> {
    /// Waits until it has ended, and gives what its function returned.
    ///
    /// # Errors
    ///
    /// See [`JoinError`]. A function that returned an `Err` is no error of `join`: its result is that `Err`.
    pub fn join(mut self) -> Result<R, JoinError> {
        match self.wait_draining(Deadline::NEVER).map_err(JoinError::Io)? {
            Some(status) => self.child().result(status),
            None => Err(JoinError::Unknown(self.child().last_words())), // not without a deadline
        }
    }

    /// As [`join`](Process::join), but waits at most `timeout`; zero looks once.
    ///
    /// # Errors
    ///
    /// [`Running`](JoinTimeoutError::Running) with the handle when it has not ended: it runs on.
    pub fn join_timeout(self, timeout: Duration) -> Result<R, JoinTimeoutError<R>> {
        self.join_until(Deadline::after(timeout))
    }

    /// As [`join_timeout`](Process::join_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`join_timeout`](Process::join_timeout).
    pub fn join_deadline(self, deadline: Instant) -> Result<R, JoinTimeoutError<R>> {
        self.join_until(Deadline::at(deadline))
    }

    fn join_until(self, deadline: Deadline) -> Result<R, JoinTimeoutError<R>> {
        match self.child().wait(deadline) {
            Ok(Some(status)) => self.child().result(status).map_err(JoinTimeoutError::Failed),
            Ok(None) => Err(JoinTimeoutError::Running(self)),
            Err(error) => Err(JoinTimeoutError::Failed(JoinError::Io(error))),
        }
    }
}

impl<R> Process<R> {
    /// Waits for the end of a process whose handle nobody will have any more: it finds the end of its input, and what it
    /// writes into pipes that nobody took is read and forgotten, so that it never waits for a reader.
    fn wait_draining(&mut self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        let mut pipes: Vec<OwnedFd> = Vec::new();
        pipes.extend(self.stdout.take().map(OwnedFd::from));
        pipes.extend(self.stderr.take().map(OwnedFd::from));
        let child = Arc::clone(self.child());
        let mut forgotten = [0; 4096];
        while !pipes.is_empty() {
            if let Some(status) = child.try_status()? {
                return Ok(Some(status));
            }
            let mut fds = vec![child.pidfd.as_fd()];
            fds.extend(pipes.iter().map(AsFd::as_fd));
            park::sleep_on_fds(&fds, deadline.left())?;
            pipes.retain(|pipe| match park::sleep_on_fds(&[pipe.as_fd()], Some(Duration::ZERO)) {
                Ok(true) => rustix::io::read(pipe, &mut forgotten).is_ok_and(|length| length > 0),
                Ok(false) => true,
                Err(_) => false,
            });
        }
        child.wait(deadline)
    }
}

#[cfg(feature = "async")]
impl<R> Process<R> {
    /// Has what comes through pipes that nobody took read and forgotten, so that the process never waits for a reader.
    pub(crate) fn forget_pipes(&mut self) -> io::Result<()> {
        drop(self.stdin.take());
        let pipes = [self.stdout.take().map(OwnedFd::from), self.stderr.take().map(OwnedFd::from)];
        for pipe in pipes.into_iter().flatten() {
            self.forgotten.push(crate::tail::Tail::of(pipe, 0)?);
        }
        Ok(())
    }
}

impl<R> Drop for Process<R> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            registry::leave(child);
        }
    }
}

impl<R> AsFd for Process<R> {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().pidfd.as_fd()
    }
}

impl<R> AsRawFd for Process<R> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<R> Waitable for Process<R> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.as_fd())
    }

    fn is_ready(&self) -> io::Result<bool> {
        self.try_wait().map(|status| status.is_some())
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Process");
        out.field("name", &self.name())
            .field("pid", &self.pid())
            .field("exit_status", &self.exit_status())
            .finish()
    }
}

impl<R> fmt::Debug for Running<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.0).finish()
    }
}

impl<R> fmt::Display for Running<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the process {} runs on; wait for it first, or terminate it", self.0.name())
    }
}

impl<R> error::Error for Running<R> {}

impl<R> fmt::Debug for JoinTimeoutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinTimeoutError::Running(process) => f.debug_tuple("Running").field(process).finish(),
            JoinTimeoutError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<R> fmt::Display for JoinTimeoutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinTimeoutError::Running(process) => {
                write!(f, "timed out joining the process {}", process.name())
            }
            JoinTimeoutError::Failed(error) => error.fmt(f),
        }
    }
}

impl<R> error::Error for JoinTimeoutError<R> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            JoinTimeoutError::Running(_) => None,
            JoinTimeoutError::Failed(error) => error.source(),
        }
    }
}
