//! The parent's side of a start. The protocol's table is in `protocol`.

use crate::builder::Builder;
use crate::child::Child;
use crate::error::SpawnError;
use crate::exec::{self, Started};
use crate::forkserver;
use crate::inherited::{self, Inherited, Place};
use crate::protocol::{self, Answer, Job, NotForked, ReceiveError, Request};
use crate::start_method::{Fork, StartMethod, start_method};
use crate::streams::{self, ChildStreams, OwnStreams};
use crate::sys::process as sys;
use crate::task::Routine;
use crate::{entry, info, reader, registry};
use mp_core::socket::{self, TransferError, Until};
use mp_core::wire::{self, Message};
use mp_core::{Deadline, Handle, Identity};
use rustix::net::SendFlags;
use rustix::process::Signal;
use serde::Serialize;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// A started process with this process's ends of its streams.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) streams: OwnStreams,
}

/// How long a child that has closed its socket may take to be seen dead.
pub(crate) const DYING: Duration = Duration::from_secs(5);

/// A start with everything that does not depend on how the process comes to be.
pub(crate) struct Start<'a> {
    builder: &'a Builder,
    deadline: Deadline,
    request: Request,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    ours: OwnStreams,
    /// This process's end.
    lifeline: Option<OwnedFd>,
}

/// Starts a process that runs `routine` with `args`.
pub(crate) fn launch(builder: &Builder, routine: Routine, args: Message<'_>) -> Result<Launched, SpawnError> {
    let job = Job::Call { routine, warm_up: None };
    let start = Start::new(builder, job, info::next_name())?;
    let launched = match builder.start_method.unwrap_or_else(start_method) {
        StartMethod::Spawn => start.by_exec(args),
        StartMethod::ForkServer => start.by_fork_server(args),
        // The child's own function comes with the request.
        StartMethod::Fork(promise) => start.by_fork(args, promise, || ()),
    }?;
    registry::enter(&launched.child);
    Ok(launched)
}

/// Forks this process to run `function`.
pub(crate) fn fork<R: Serialize + 'static>(
    builder: &Builder,
    promise: Fork,
    function: impl FnOnce() -> R,
) -> Result<Launched, SpawnError> {
    let start = Start::new(builder, Job::Closure, info::next_name())?;
    let mut scratch = Vec::new();
    let none = wire::encode(&(), &mut scratch).map_err(SpawnError::Encode)?;
    let launched = start.by_fork(none, promise, function)?;
    registry::enter(&launched.child);
    Ok(launched)
}

/// Starts the fork server, which is no child that the program sees.
pub(crate) fn fork_server(builder: &Builder, job: Job) -> Result<Arc<Child>, SpawnError> {
    let start = Start::new(builder, job, (String::new(), String::new()))?;
    let mut scratch = Vec::new();
    let none = wire::encode(&(), &mut scratch).map_err(SpawnError::Encode)?;
    let child = start.by_exec(none)?.child;
    child.hidden.store(true, std::sync::atomic::Ordering::Relaxed);
    registry::enter(&child);
    Ok(child)
}

impl<'a> Start<'a> {
    fn new(builder: &'a Builder, job: Job, (name, path): (String, String)) -> Result<Start<'a>, SpawnError> {
        if !entry::is_initialized() {
            return Err(SpawnError::NotInitialized);
        }
        #[cfg_attr(not(feature = "log"), expect(unused_mut, reason = "a line of the log is added"))]
        let (ChildStreams { stdin, stdout, stderr }, mut ours) = streams::open(builder)?;
        let name = builder.name.clone().unwrap_or(name);
        #[cfg(feature = "log")]
        let log = if builder.forward_log {
            let (end, line) = crate::log_line::open(&name)?;
            ours.tails.log = Some(line);
            Some(end)
        } else {
            None
        };
        let (line_end, lifeline) = if builder.daemon { self::lifeline()? } else { (None, None) };
        let request = Request {
            job,
            name,
            path,
            parent: Identity::current(),
            parent_name: info::own_name().into(),
            lifeline: line_end,
            stdin: stdin.map(Handle::from),
            inherited: None,
            settings: builder.settings.clone(),
            start_method: start_method().number(),
            #[cfg(feature = "log")]
            log,
        };
        Ok(Start {
            builder,
            deadline: Deadline::after(builder.handshake_timeout),
            request,
            stdout,
            stderr,
            ours,
            lifeline,
        })
    }

    fn by_exec(mut self, args: Message<'_>) -> Result<Launched, SpawnError> {
        let started = exec::start(self.builder, self.stdout.as_ref(), self.stderr.as_ref())?;
        mp_core::step!("process.spawn", 1);
        let hello = protocol::hello(started.pid);
        // A few bytes into an empty buffer: they never block, nor go in part.
        let greeted = rustix::net::send(&started.socket, &hello, SendFlags::NOSIGNAL);
        mp_core::step!("process.spawn", 2);
        let child = self.child(started);
        match greeted.map_err(TransferError::from) {
            Ok(_) => self.finish(child, args),
            Err(error) => Err(give_up(child, error.into())),
        }
    }

    fn by_fork<R: Serialize + 'static>(
        mut self,
        args: Message<'_>,
        promise: Fork,
        function: impl FnOnce() -> R,
    ) -> Result<Launched, SpawnError> {
        self.request.inherited = Some(self.inherited(&Place::own())?);
        let (ours, theirs) = exec::sockets()?;
        inherited::flush_stdout();
        // Nothing of this crate is half changed in the child.
        let held = (forkserver::hold(), registry::hold());
        let reader = reader::hold();
        let Some(pid) = sys::fork(promise)? else {
            drop(ours);
            let (server, children) = held;
            drop(reader);
            server.let_go();
            children.let_go();
            // The parent's ends of what lies between the two, above all of the child's own lifeline.
            drop(self);
            entry::run_forked(theirs, function)
        };
        drop((held, reader, theirs));
        mp_core::step!("process.fork", 1);
        let pidfd = exec::adopt(pid)?;
        let child = self.child(Started { pid, pidfd, socket: ours });
        self.finish(child, args)
    }

    fn by_fork_server(mut self, args: Message<'_>) -> Result<Launched, SpawnError> {
        match forkserver::start(&mut self, &args) {
            Ok(started) => {
                args.handles.sent();
                let child = Arc::new(self.child(started));
                Ok(Launched { child, streams: self.ours })
            }
            Err(forkserver::Failed::Unfit(warm_up)) => {
                self.request.inherited = None;
                if let Job::Call { warm_up: place, .. } = &mut self.request.job {
                    *place = warm_up;
                }
                self.by_exec(args)
            }
            Err(forkserver::Failed::Spawn(error)) => Err(error),
        }
    }

    /// What an exec would hand on, for a child that is copied from `place`.
    fn inherited(&self, place: &Place) -> io::Result<Inherited> {
        Inherited::new(self.builder, place, self.stdout.as_ref(), self.stderr.as_ref())
    }

    /// Makes the request one for a child of the fork server that is `place`; then [`settle`](Start::settle) completes it.
    pub(crate) fn inherit(&mut self, place: &Place) -> io::Result<()> {
        self.request.inherited = Some(self.inherited(place)?);
        Ok(())
    }

    /// This process's file mode mask is `umask`.
    pub(crate) fn settle(&mut self, place: &Place, umask: Option<u32>) {
        self.request.settings = place.settings(&self.builder.settings, umask);
    }

    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The rest of the handshake, and a pidfd if the child has brought one.
    pub(crate) fn hand_over(
        &self,
        socket: &OwnedFd,
        gone: Option<BorrowedFd<'_>>,
        args: &Message<'_>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let until = Until { deadline: self.deadline, gone };
        let told = match self.tell(socket, args, &until) {
            told @ (Ok(()) | Err(TransferError::Closed | TransferError::Gone)) => told,
            // The child waits for the rest, and will not answer.
            Err(error) => return Err(error.into()),
        };
        // A child that refused before it had everything has said why; only then is a broken socket the reason.
        match (protocol::receive::<Answer>(socket, &until), told) {
            (Ok(Answer::Refused(_, why)), _) => Err(Failure::Refused(why)),
            (Ok(Answer::NotForked(why)), _) => Err(Failure::NotForked(why)),
            (_, Err(error)) => Err(error.into()),
            (Ok(Answer::Runs(pidfd)), Ok(())) => {
                Ok(pidfd.and_then(|pidfd| Arc::try_unwrap(pidfd.into_shared()).ok()))
            }
            (Err(error), Ok(())) => Err(error.into()),
        }
    }

    fn tell(&self, socket: &OwnedFd, args: &Message<'_>, until: &Until<'_>) -> Result<(), TransferError> {
        protocol::send(socket, &self.request, until)?;
        let fds: Vec<_> = args.handles.fds().collect();
        socket::send_parts(socket.as_fd(), socket::Header::of(args), args.bytes, &fds, until)?;
        mp_core::step!("process.spawn", 3);
        Ok(())
    }

    fn finish(self, child: Child, args: Message<'_>) -> Result<Launched, SpawnError> {
        match self.hand_over(&child.socket, Some(child.pidfd.as_fd()), &args) {
            Ok(_) => {
                mp_core::step!("process.spawn", 4);
                args.handles.sent();
                Ok(Launched { child: Arc::new(child), streams: self.ours })
            }
            Err(failure) => Err(give_up(child, failure)),
        }
    }

    fn child(&mut self, started: Started) -> Child {
        let tails = std::mem::take(&mut self.ours.tails);
        Child::new(started, self.request.name.clone(), self.lifeline.take(), tails)
    }
}

/// A line that only this process holds, and its end for the child.
fn lifeline() -> io::Result<(Option<Handle>, Option<OwnedFd>)> {
    let (reader, writer) = sys::pipe()?;
    Ok((Some(Handle::from(reader)), Some(writer)))
}

/// Why the handshake failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Transfer(TransferError),
    Refused(String),
    NotForked(NotForked),
}

impl Failure {
    /// Whether the other side has closed its end.
    pub(crate) const fn is_end(&self) -> bool {
        matches!(self, Failure::Transfer(TransferError::Closed | TransferError::Gone))
    }

    pub(crate) fn into_error(self) -> SpawnError {
        match self {
            Failure::Refused(why) => SpawnError::Refused(why),
            Failure::Transfer(TransferError::Closed) => SpawnError::Refused(
                "it has closed its standard input, so it did not reach `init()`, which must be the first line of `main`"
                    .into(),
            ),
            Failure::Transfer(error) => error.into(),
            Failure::NotForked(NotForked::System(error)) => io::Error::from_raw_os_error(error).into(),
            Failure::NotForked(NotForked::Unfit) => io::Error::from(io::ErrorKind::Unsupported).into(),
        }
    }
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

/// The handshake failed: whatever the child is, it is ended and reaped, and what it died of is the error.
pub(crate) fn give_up(child: Child, failure: Failure) -> SpawnError {
    let own_death = if failure.is_end() { child.wait(Deadline::after(DYING)).ok().flatten() } else { None };
    let _ = child.signal(Signal::KILL);
    // A killed process ends at once, unless the kernel itself is busy with it: then it is reaped in the background.
    if !matches!(child.wait(Deadline::after(DYING)), Ok(Some(_))) {
        registry::leave(Arc::new(child));
    }
    own_death.map_or_else(|| failure.into_error(), SpawnError::Died)
}
