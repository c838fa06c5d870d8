//! Starting this very program again.

use crate::builder::Builder;
use crate::error::SpawnError;
use crate::inherited::Environment;
use crate::protocol::MARK;
use crate::status::ExitStatus;
use crate::sys::process as sys;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
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
    let mut started = command.spawn()?;
    let pid = started.id();
    // Nobody has waited for it, so the pid is still its own; unless somebody reaps every child.
    match open(pid) {
        Ok(Some(pidfd)) => Ok(Started { pid, pidfd, socket: ours }),
        Ok(None) => Err(SpawnError::Died(ExitStatus::Unknown)),
        Err(error) => {
            let _ = started.kill();
            let _ = started.wait();
            Err(error.into())
        }
    }
}

/// A pidfd of a child of this process; none when somebody else has reaped it.
pub(crate) fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no pid"))?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        // It lives as long as the child: where a standard stream is closed here, it must not pass for that.
        Ok(pidfd) => Ok(Some(sys::above_streams(pidfd)?)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
