//! Starting this very program again.

use crate::builder::Builder;
use crate::error::SpawnError;
use crate::inherited::Environment;
use crate::protocol::MARK;
use crate::status::ExitStatus;
use crate::sys::process as sys;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitOptions, pidfd_open};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A process, and this process's end of the socket to it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) socket: OwnedFd,
}

/// Two ends of a socket, this process's and the child's, above the standard streams, also when those are closed here: the
/// child's are put in place by number.
pub(crate) fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((sys::above_streams(ours.into())?, sys::above_streams(theirs.into())?))
}

/// The environment that `builder` asks for.
pub(crate) fn environment(builder: &Builder) -> Environment {
    let own = std::env::vars_os().filter(|(name, _)| !builder.clear_env && name != MARK);
    let mut env: Environment = own.collect();
    for (name, value) in &builder.env {
        env.retain(|(set, _)| set != name);
        env.extend(value.iter().map(|value| (name.clone(), value.clone())));
    }
    env
}

/// The handshake's socket is the child's standard input: so nothing has to run between fork and exec, and the start costs the
/// same however large this process is.
pub(crate) fn start(
    builder: &Builder,
    stdout: Option<&OwnedFd>,
    stderr: Option<&OwnedFd>,
) -> Result<Started, SpawnError> {
    let (ours, theirs) = sockets()?;
    let inode = rustix::fs::fstat(&theirs).map_err(io::Error::from)?.st_ino;
    let mut arguments = std::env::args_os();
    // The link names the running image, also when its file was replaced or deleted meanwhile.
    let mut command = Command::new("/proc/self/exe");
    if let Some(own_name) = arguments.next() {
        command.arg0(own_name);
    }
    command.args(arguments);
    if builder.clear_env {
        command.env_clear();
    }
    for (name, value) in &builder.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env(MARK, inode.to_string());
    if let Some(dir) = &builder.current_dir {
        command.current_dir(dir);
    }
    let output = |fd: Option<&OwnedFd>| -> io::Result<Stdio> {
        Ok(match fd {
            Some(fd) => fd.try_clone()?.into(),
            None => Stdio::inherit(),
        })
    };
    command.stdin(theirs).stdout(output(stdout)?).stderr(output(stderr)?);
    // This process's buffers are not flushed before: nothing of them is inherited, and a thread that keeps standard output
    // locked while it waits for this one must not make the two wait for each other.
    let pid = command.spawn()?.id();
    Ok(Started { pid, pidfd: adopt(pid)?, socket: ours })
}

/// A pidfd of the child `pid` of this process, for which nobody here has waited.
///
/// # Errors
///
/// [`SpawnError::Died`] when somebody else has, who reaps every child. Without a descriptor left the child is ended and reaped.
pub(crate) fn adopt(pid: u32) -> Result<OwnedFd, SpawnError> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no pid"))?;
    // It lives as long as the child: where a standard stream is closed here, it must not pass for that.
    match pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).and_then(sys::above_streams) {
        // The pid of a child that others have reaped may be a stranger's by now.
        Ok(pidfd) if sys::is_child(WaitId::PidFd(pidfd.as_fd())) => Ok(pidfd),
        Ok(_) => Err(SpawnError::Died(ExitStatus::Unknown)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(SpawnError::Died(ExitStatus::Unknown)),
        Err(error) => {
            if sys::is_child(WaitId::Pid(pid)) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            }
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_a_strangers_is_no_child() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned();
        assert!(matches!(adopt(parent), Err(SpawnError::Died(ExitStatus::Unknown))));
    }
}
