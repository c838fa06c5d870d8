//! The limit of a forked process: a small process that forks when a byte comes, and answers with the exit status.
#![expect(unsafe_code, reason = "fork and what a forked child may call are not in rustix")]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::role;

const STATUS: i32 = 7;

pub(crate) fn start(meter: &mut Meter) -> Measured {
    with_zygote("zygote", |mut socket| {
        meter.measure(|n| {
            for _ in 0..n {
                socket.write_all(&[1])?;
                let mut status = [0; 4];
                socket.read_exact(&mut status)?;
                if i32::from_ne_bytes(status) != STATUS {
                    return Err("a strange exit status".into());
                }
            }
            Ok(())
        })
    })
}

/// A small process of this role, and a socket to it, whose end is its end.
pub(super) fn with_zygote(role: &str, measure: impl FnOnce(&UnixStream) -> Measured) -> Measured {
    let (here, there) = UnixStream::pair()?;
    let child = role::command(role, "", OwnedFd::from(there))?.spawn()?;
    measure(&here)?;
    drop(here);
    role::finish(child)
}

pub(crate) fn start_beside_much(meter: &mut Meter) -> Measured {
    crate::peers::threads::beside_much(|| start(meter))
}

/// The zygote: its socket is the standard input, and its end is ours.
pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        match socket.read_exact(&mut [0]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        socket.write_all(&fork_and_wait()?.to_ne_bytes())?;
    }
}

fn fork_and_wait() -> io::Result<i32> {
    let pid = fork(|| {})?;
    let mut status = 0;
    // SAFETY: `status` is a live place for the answer.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::WEXITSTATUS(status))
}

/// A child of this process that runs `child` and ends.
pub(super) fn fork(child: impl FnOnce()) -> io::Result<libc::pid_t> {
    #[expect(clippy::disallowed_methods, reason = "this process has one thread")]
    // SAFETY: one thread, so that the child may call anything.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            child();
            // SAFETY: ends the child without a destructor of the zygote's.
            unsafe { libc::_exit(STATUS) }
        }
        _ => Ok(pid),
    }
}

/// Waits for the children that have ended already.
pub(super) fn reap() {
    let mut status = 0;
    // SAFETY: `status` is a live place for the answer.
    while unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } > 0 {}
}
