//! A line that ends this process when somebody else lets go of the other end.
//!
//! A parent-death signal would fire when the *thread* that started this process ends. A pipe with asynchronous
//! notification does not: the kernel sends the chosen signal, SIGKILL, when the last copy of the other end is closed, also
//! when this process spins with all signals blocked.

#![expect(unsafe_code, reason = "fcntl commands that rustix does not have")]

use rustix::event::{PollFd, PollFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Arms `line`, a pipe's reading end with a description of its own; `false` when the other end is closed already.
pub(crate) fn arm(line: &OwnedFd) -> io::Result<bool> {
    let pid = libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?;
    control(line.as_fd(), libc::F_SETOWN, pid)?;
    control(line.as_fd(), F_SETSIG, libc::SIGKILL)?;
    let flags = rustix::fs::fcntl_getfl(line)?;
    control(
        line.as_fd(),
        libc::F_SETFL,
        i32::try_from(flags.bits()).map_err(io::Error::other)? | libc::O_ASYNC,
    )?;
    // Armed first, then looked: an end that was closed before makes no signal any more.
    Ok(!hung_up(line))
}

/// Not in the `libc` crate for this target; the same number on every Linux.
const F_SETSIG: libc::c_int = 10;

fn control(fd: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: an open descriptor, and commands that take a number.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn hung_up(line: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(line, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match rustix::event::poll(&mut polled, Some(&now)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}
