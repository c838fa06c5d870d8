//! Small calls around the start and the end of a process.

#![expect(unsafe_code, reason = "atexit, the environment before threads exist, the disposition of SIGPIPE")]

use crate::status::ExitStatus;
use rustix::process::{WaitId, WaitIdOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Has `hook` called when this process ends normally.
pub(crate) fn at_exit(hook: extern "C" fn()) {
    // SAFETY: a plain function of this image; shared libraries that are unloaded run their hooks first.
    let answer = unsafe { libc::atexit(hook) };
    // Fails only without memory for one entry: then nobody is joined at exit.
    debug_assert_eq!(answer, 0, "atexit");
}

/// Takes a variable out of the environment.
#[expect(clippy::disallowed_methods, reason = "the one door")]
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: called from `init`, the first line of `main`, or from a constructor before it, and only in a process that
    // this crate has just started: no other thread exists that could read the environment.
    unsafe { std::env::remove_var(name) };
}

/// What the standard library does before `main`, for a process that is taken over before that.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: sets a disposition without a handler.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    debug_assert_ne!(before, libc::SIG_ERR, "signal");
}

/// Reaps the child behind `pidfd`, if it has ended.
///
/// A child that somebody else has reaped (SIGCHLD ignored, a foreign `waitpid(-1)`) has ended with an unknown status.
pub(crate) fn reap(pidfd: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) => return Ok(None),
            Ok(Some(status)) => {
                return Ok(Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::Code(code),
                    (None, Some(number)) => ExitStatus::Signal { number, core: status.dumped() },
                    (None, None) => ExitStatus::Unknown,
                }));
            }
            Err(rustix::io::Errno::CHILD) => return Ok(Some(ExitStatus::Unknown)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the process behind `pidfd` has ended, reaped or not.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    mp_core::park::sleep_on_fds(&[pidfd.as_fd()], Some(std::time::Duration::ZERO))
}

/// An anonymous file for a result that is too long for the socket's buffer.
pub(crate) fn anonymous_file() -> io::Result<std::fs::File> {
    Ok(rustix::fs::memfd_create("mp-result", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}
