//! A started process, as everybody in the parent who has to do with it shares it.

use crate::error::{JoinError, LastWords};
use crate::exec::Started;
use crate::protocol::{self, Ending, Outcome, ReceiveError};
use crate::status::ExitStatus;
use crate::streams::Tails;
use crate::sys::process as sys;
use crate::tail::Tail;
use mp_core::socket::{self, Received, TransferError, Until};
use mp_core::{Deadline, Encoding, park, wire};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long to leave an ended process to its debugger before looking again.
const HELD_BACK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) pidfd: OwnedFd,
    /// The parent's end of the handshake's socket; the result waits in it.
    pub(crate) socket: OwnedFd,
    /// Held open as long as this process lives; a daemon ends when it closes.
    pub(crate) lifeline: Option<OwnedFd>,
    /// What is kept of its output.
    pub(crate) tails: Tails,
    pub(crate) status: Mutex<Option<ExitStatus>>,
    /// Not joined when this process ends.
    pub(crate) released: AtomicBool,
    /// Not one of the program's children: its fork server.
    pub(crate) hidden: AtomicBool,
}

impl Child {
    /// A daemon where this process holds its lifeline.
    pub(crate) fn new(started: Started, name: String, lifeline: Option<OwnedFd>, tails: Tails) -> Child {
        let Started { pid, pidfd, socket } = started;
        Child {
            pid,
            name,
            daemon: lifeline.is_some(),
            pidfd,
            socket,
            lifeline,
            tails,
            status: Mutex::new(None),
            released: AtomicBool::new(false),
            hidden: AtomicBool::new(false),
        }
    }

    /// In a forked child of this process, which has copies of everything: lets go of what would keep this child from seeing
    /// the end of its parent. The numbers stay taken, by nothing.
    pub(crate) fn disown(&self) {
        let fds = [Some(&self.socket), self.lifeline.as_ref()];
        for fd in fds.into_iter().flatten() {
            sys::blind(fd.as_fd());
        }
    }

    /// How it ended, if it has; reaps it then.
    pub(crate) fn try_status(&self) -> io::Result<Option<ExitStatus>> {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_none() && sys::has_ended(&self.pidfd)? {
            *status = sys::reap(&self.pidfd)?;
        }
        Ok(*status)
    }

    /// Waits until it has ended; `None` when the time is over first.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.try_status()? {
                return Ok(Some(status));
            }
            if deadline.passed() {
                return Ok(None);
            }
            // The kernel makes a pidfd readable for good: there is no news to miss, so no slices.
            if park::sleep_on_fds(&[self.pidfd.as_fd()], deadline.left())? && self.try_status()?.is_none() {
                // It has ended, and a debugger that traces it keeps it from being reaped.
                std::thread::sleep(HELD_BACK);
            }
        }
    }

    /// Sends `signal`; one that has ended stays as it is. Never hits another process: a pidfd names just this one.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is kept of its output, up to now.
    pub(crate) fn last_words(&self) -> LastWords {
        let bytes = |tail: &Option<Tail>| tail.as_ref().map(Tail::bytes);
        LastWords { stdout: bytes(&self.tails.stdout), stderr: bytes(&self.tails.stderr) }
    }

    /// The result, after it has ended with `status`.
    pub(crate) fn result<R: DeserializeOwned + 'static>(&self, status: ExitStatus) -> Result<R, JoinError> {
        #[cfg(feature = "log")]
        if let Some(line) = &self.tails.log {
            line.catch_up();
        }
        // Everything that it sent is in the socket's buffer by now.
        let now = Until { deadline: Deadline::after(Duration::ZERO), gone: None };
        let outcome = match protocol::receive::<Outcome>(&self.socket, &now) {
            Ok(outcome) => outcome,
            Err(ReceiveError::Decode(error)) => return Err(JoinError::Undecodable(error)),
            Err(ReceiveError::Transfer(TransferError::TooManyHandles)) => return Err(too_many_handles()),
            Err(ReceiveError::Transfer(_)) => {
                return Err(JoinError::without_result(status, self.last_words()));
            }
        };
        let Received { encoding, mut bytes, handles } = match socket::receive(self.socket.as_fd(), &now) {
            Ok(received) => received,
            Err(TransferError::TooManyHandles) => return Err(too_many_handles()),
            // It died between the two frames.
            Err(_) => return Err(JoinError::without_result(status, self.last_words())),
        };
        if let Some(file) = outcome.file {
            let mut file = file.into_inner();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(JoinError::Io)?;
        }
        let bytes = Cow::Owned(bytes);
        Err(match outcome.ending {
            Ending::Returned => {
                return wire::decode(encoding, bytes, handles).map_err(JoinError::Undecodable);
            }
            Ending::Panicked => decoded(encoding, bytes, JoinError::Panicked),
            Ending::Arguments => decoded(encoding, bytes, JoinError::Arguments),
            Ending::Unencodable => decoded(encoding, bytes, JoinError::Unencodable),
        })
    }
}

fn decoded<T: DeserializeOwned + 'static>(
    encoding: Encoding,
    bytes: Cow<'_, [u8]>,
    error: fn(T) -> JoinError,
) -> JoinError {
    wire::decode(encoding, bytes, Vec::new()).map_or_else(JoinError::Undecodable, error)
}

fn too_many_handles() -> JoinError {
    let text = "the handles of the result could not be opened here; raise RLIMIT_NOFILE";
    JoinError::Io(io::Error::new(io::ErrorKind::QuotaExceeded, text))
}
