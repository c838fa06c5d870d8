//! The parent's side of a start. The protocol's table is in `protocol`.

use crate::builder::{Builder, StartMethod};
use crate::child::Child;
use crate::error::SpawnError;
use crate::protocol::{self, Answer, MARK, ReceiveError, Request};
use crate::status::ExitStatus;
use crate::streams::{self, ChildStreams, OwnStreams};
use crate::sys::process as sys;
use crate::task::Routine;
use crate::{entry, info, registry};
use mp_core::socket::{self, TransferError, Until};
use mp_core::wire::Message;
use mp_core::{Deadline, Handle, Identity};
use rustix::net::SendFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A started process with the pipes that were asked for.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

/// How long a child that has closed its socket may take to be seen dead.
const DYING: Duration = Duration::from_secs(5);

pub(crate) fn launch(builder: &Builder, routine: Routine, args: Message<'_>) -> Result<Launched, SpawnError> {
    if !entry::is_initialized() {
        return Err(SpawnError::NotInitialized);
    }
    let StartMethod::Spawn = builder.start_method;
    let deadline = Deadline::after(builder.handshake_timeout);
    let (name, path) = info::next_name();
    let name = builder.name.clone().unwrap_or(name);
    let (ChildStreams { stdin, stdout, stderr }, own_streams) = streams::open(builder)?;
    let (line_end, lifeline) = if builder.daemon { lifeline()? } else { (None, None) };
    let request = Request {
        routine,
        name: name.clone(),
        path,
        parent: Identity::current(),
        parent_name: info::own_name().into(),
        lifeline: line_end,
        stdin: stdin.map(Handle::from),
        settings: builder.settings.clone(),
    };
    let Started { pid, pidfd, socket } = start(builder, stdout, stderr)?;
    mp_core::step!("process.spawn", 1);
    let daemon = builder.daemon;
    let child = Child {
        pid,
        name,
        daemon,
        pidfd,
        socket,
        lifeline,
        tails: own_streams.tails,
        status: Mutex::new(None),
        released: AtomicBool::new(false),
    };
    if let Err(error) = hand_over(&child, request, args, deadline) {
        return Err(give_up(child, error));
    }
    mp_core::step!("process.spawn", 4);
    let child = Arc::new(child);
    registry::enter(&child);
    let OwnStreams { stdin, stdout, stderr, tails: _ } = own_streams;
    Ok(Launched { child, stdin, stdout, stderr })
}

struct Started {
    pid: u32,
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// Starts this very program again. The handshake's socket is its standard input: so nothing has to run between fork and
/// exec, and the start costs the same however large this process is.
fn start(builder: &Builder, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Result<Started, SpawnError> {
    let (ours, theirs) = UnixStream::pair()?;
    // Above the standard streams, also when those are closed here: the child's are put in place by number.
    let ours = sys::above_streams(ours.into())?;
    let theirs = sys::above_streams(theirs.into())?;
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
    let output = |fd: Option<OwnedFd>| fd.map_or_else(std::process::Stdio::inherit, Into::into);
    command.stdin(theirs).stdout(output(stdout)).stderr(output(stderr));
    // This process's buffers are not flushed before: nothing of them is inherited, and a thread that keeps standard output
    // locked while it waits for this one must not make the two wait for each other.
    let mut started = command.spawn()?;
    let pid = started.id();
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no pid"))?;
    // Nobody has waited for it, so the pid is still its own; unless somebody reaps every child.
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Started { pid, pidfd, socket: ours }),
        Err(rustix::io::Errno::SRCH) => Err(SpawnError::Died(ExitStatus::Unknown)),
        Err(error) => {
            let _ = started.kill();
            let _ = started.wait();
            Err(io::Error::from(error).into())
        }
    }
}

/// A line that only this process holds, and its end for the child.
fn lifeline() -> io::Result<(Option<Handle>, Option<OwnedFd>)> {
    let (reader, writer) = sys::pipe()?;
    Ok((Some(Handle::from(reader)), Some(writer)))
}

/// Why the handshake failed.
enum Failure {
    Transfer(TransferError),
    Refused(String),
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Failure {
        Failure::Transfer(error)
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Failure {
        match error {
            ReceiveError::Transfer(error) => Failure::Transfer(error),
            ReceiveError::Decode(error) => Failure::Refused(error.to_string()),
        }
    }
}

fn hand_over(child: &Child, request: Request, args: Message<'_>, deadline: Deadline) -> Result<(), Failure> {
    let until = Until { deadline, gone: Some(child.pidfd.as_fd()) };
    let told = match tell(child, request, &args, &until) {
        Err(error @ (TransferError::TimedOut | TransferError::TooManyHandles)) => return Err(error.into()),
        told => told,
    };
    // A child that refused before it had everything has said why; only then is a broken socket the reason.
    match (protocol::receive::<Answer>(&child.socket, &until), told) {
        (Ok(Err(why)), _) => Err(Failure::Refused(why)),
        (_, Err(error)) => Err(error.into()),
        (answer, Ok(())) => {
            answer?.map_err(Failure::Refused)?;
            args.handles.sent();
            Ok(())
        }
    }
}

fn tell(child: &Child, request: Request, args: &Message<'_>, until: &Until<'_>) -> Result<(), TransferError> {
    // A few bytes into an empty buffer: they never block, nor go in part.
    rustix::net::send(&child.socket, &protocol::hello(child.pid), SendFlags::NOSIGNAL)?;
    mp_core::step!("process.spawn", 2);
    protocol::send(&child.socket, &request, until)?;
    // The child's ends of lifeline and input are its own now.
    drop(request);
    let fds: Vec<_> = args.handles.fds().collect();
    socket::send_parts(child.socket.as_fd(), socket::Header::of(args), args.bytes, &fds, until)?;
    mp_core::step!("process.spawn", 3);
    Ok(())
}

/// The handshake failed: whatever the child is, it is ended and reaped, and what it died of is the error.
fn give_up(child: Child, failure: Failure) -> SpawnError {
    let closed = matches!(failure, Failure::Transfer(TransferError::Closed | TransferError::Gone));
    let own_death = if closed { child.wait(Deadline::after(DYING)).ok().flatten() } else { None };
    let _ = child.signal(Signal::KILL);
    // A killed process ends at once, unless the kernel itself is busy with it: then it is reaped in the background.
    if !matches!(child.wait(Deadline::after(DYING)), Ok(Some(_))) {
        registry::leave(Arc::new(child));
    }
    match (failure, own_death) {
        (_, Some(status)) => SpawnError::Died(status),
        (Failure::Refused(why), None) => SpawnError::Refused(why),
        (Failure::Transfer(TransferError::Closed), None) => SpawnError::Refused(
            "it has closed its standard input, so it did not reach `init()`, which must be the first line of `main`".into(),
        ),
        (Failure::Transfer(error), None) => error.into(),
    }
}
