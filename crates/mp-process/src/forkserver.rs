//! The program's side of the fork server: started on first use, private to this process, replaced when it has died.
//!
//! A start is an *order* to the fork server (a word for the pid, the child's end of a socket) and a request that waits in that
//! socket; the child answers with a pidfd of itself. A *spare* is an order that was sent before it was needed: its child exists
//! already and waits for the request.
//!
//! | step | what has happened | killed here |
//! | --- | --- | --- |
//! | `process.forkserver:1` | the order is sent | this process: the socket's end is the end of the child, and the lifeline's that of the fork server |
//! | `process.spawn:3` | request and arguments are sent | the child may run: a daemon ends by its lifeline, any other goes on |
//! | `process.forkserver:2` | the child has answered | the same |
//!
//! Who may die, and what this side sees:
//!
//! | killed | the socket | the word | what follows |
//! | --- | --- | --- | --- |
//! | fork server, before the clone | closed | zero, and the fork server is dead | another one, and the order again |
//! | fork server, after it | open | the pid | nothing: the child goes on |
//! | child, before its answer | closed | the pid | a pidfd by the pid, the status, `SpawnError::Died`; a spare: the next one |
//! | the same, and others reap every child | closed | a pid that may be another's by now | no pidfd of a stranger, no signal; status unknown |
//! | child, after it | closed | the pid | as under every start method |
//!
//! Invariants:
//! 1. The kernel writes the pid into the word before the child runs, in the same call that makes it. So when the fork server is
//!    dead, or the child has answered, or its socket has closed, the word says for good whether there was a child.
//! 2. Where that is in doubt (nothing came in time) the fork server is killed first. So no child is ever lost: it is
//!    reaped, and its death is known.
//! 3. A word is handed out again only when its order has come to an end and the fork server cannot write it any more.
//! 4. Nothing waits under the lock of the state but the start of the fork server itself; nothing at all under those of the spares
//!    and the words, which are taken in this order.
//! 5. A fork server that this process has ended itself is no failure of the start that finds it dead.

use crate::builder::Builder;
use crate::child::Child;
use crate::error::SpawnError;
use crate::exec::{self, Started};
use crate::inherited::Place;
use crate::launch::{self, DYING, Failure, Start};
use crate::protocol::{Job, NotForked, Service};
use crate::registry;
use crate::standing::{Observer, Standing};
use crate::start_method::StartMethod;
use crate::status::ExitStatus;
use crate::streams::Tails;
use crate::sys::births::{Births, WORDS};
use crate::sys::process::{above_streams, blind};
use crate::task::{Routine, Task};
use mp_core::socket::TransferError;
use mp_core::wire::Message;
use mp_core::{Deadline, Handle};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::process::Signal;
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a start may find its fork server dead, or itself in need of another, before it gives up.
const ATTEMPTS: usize = 3;

/// This process's fork server: what [`StartMethod::ForkServer`] forks from.
///
/// It is this very program once more, stopped inside [`init`](crate::init()) with a single thread; it needs nobody's attention.
/// It starts with the first process that asks for it, ends with this process, and is started again when it was
/// killed. The processes that it forks are this process's children, whatever becomes of it.
///
/// A child finds everything as if it had been run afresh: the environment, working directory, mask, priority, processors and limits of
/// this process *now*, its streams, and no descriptor that it was not given. What else changes in this process (user, capabilities,
/// namespaces, root directory, control group, session) makes the next start replace the fork server. Signals that this process
/// ignores are those of the moment when the fork server started.
///
/// # What happens when a process dies
///
/// | killed | what the others get |
/// | --- | --- |
/// | the fork server | nothing: its children live on, their results and statuses are exact, the next start begins another |
/// | a child | as under every start method |
/// | this process | the fork server and its spares end at once |
///
/// # Examples
///
/// ```standalone_crate
/// use mp_process::{ForkServer, Process, StartMethod};
/// use std::sync::OnceLock;
///
/// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
///
/// fn load() {
///     TABLE.get_or_init(|| (0..1000).map(|n| n * n).collect());
/// }
///
/// fn look_up(n: usize) -> u64 {
///     TABLE.get().map_or(0, |table| table[n]) // there already: every child shares the memory
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     mp_process::init();
///     mp_process::set_start_method(StartMethod::ForkServer);
///     ForkServer::warm_up(load);
///     assert_eq!(Process::spawn(look_up, (12,))?.join()?, 144);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub enum ForkServer {}

/// What the program wants of its fork servers, and the one it has.
#[derive(Debug)]
struct State {
    owner: u32,
    warm_up: Option<Routine>,
    server: Option<Arc<Server>>,
}

static STATE: Mutex<State> = Mutex::new(State { owner: 0, warm_up: None, server: None });

/// How many spares the program wants; outside of the state, so that a start need not wait for the lock when it is done.
static WANTED: AtomicUsize = AtomicUsize::new(0);

fn state() -> MutexGuard<'static, State> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if state.owner != process::id() {
        // The parent's, copied by a fork. Letting go of it here touches nothing of the parent's.
        state.server = None;
        state.owner = process::id();
    }
    state
}

/// Keeps the state whole over a fork of this process.
pub(crate) fn hold() -> Held {
    Held(STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The state, locked over a fork.
pub(crate) struct Held(MutexGuard<'static, State>);

impl Held {
    /// In the forked child: the fork server and its spares are the parent's, and none of them shall miss the parent's end because
    /// a copy of a line to it is here.
    pub(crate) fn let_go(mut self) {
        if let Some(server) = self.0.server.take() {
            server.disown();
        }
        self.0.owner = process::id();
    }
}

impl ForkServer {
    /// Has `function` run once in the fork server, before anything is forked: what it leaves in memory is there in every child,
    /// shared until written to. A running fork server is replaced.
    ///
    /// It must not leave threads behind: nothing can be forked beside them, and processes are started by
    /// [`StartMethod::Spawn`] instead, which then run `function` themselves. What it writes to standard output appears once; descriptors
    /// that it opens and streams that it connects are shared by all children, as is the state of random generators that do not notice a
    /// fork. It counts in the [time for the start](Builder::handshake_timeout).
    #[doc(alias = "set_forkserver_preload")]
    pub fn warm_up<F>(function: F)
    where
        F: Task<()>,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let server = {
            let mut state = state();
            state.warm_up = Routine::of::<F, ()>(function);
            state.server.take()
        };
        if let Some(server) = server {
            server.end();
        }
    }

    /// Keeps `count` processes forked and waiting, so that a start costs about what that of a thread does. None by default.
    ///
    /// Each takes what a waiting process does: 20 KiB of its own and 48 KiB of page tables in a small program (`smaps_rollup` and
    /// `VmPTE`, the mean of twenty). One is forked for each that is used. More than about a thousand, with the starts under way,
    /// cannot be.
    ///
    /// # Errors
    ///
    /// As [`start`](ForkServer::start), which it does when `count` is not zero.
    pub fn spares(count: usize) -> Result<(), SpawnError> {
        WANTED.store(count, Ordering::Relaxed);
        let server = state().server.clone();
        server.inspect(|server| server.let_surplus_go());
        if count == 0 { Ok(()) } else { ForkServer::start() }
    }

    /// Starts it now, rather than with the first process that asks for it.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`].
    pub fn start() -> Result<(), SpawnError> {
        let builder = Builder::default();
        let deadline = Deadline::after(builder.handshake_timeout);
        let mut server = current(deadline)?;
        if matches!(server.child.try_status(), Ok(Some(_))) {
            server.bury();
            server = current(deadline)?;
        }
        server.refill();
        Ok(())
    }

    /// Ends it and its spares. The processes that came from it live on; the next start begins another.
    pub fn stop() {
        let server = state().server.take();
        if let Some(server) = server {
            server.end();
        }
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid() -> Option<u32> {
        let server = state().server.clone()?;
        matches!(server.child.try_status(), Ok(None)).then_some(server.child.pid)
    }
}

/// Why the fork server gave no process.
pub(crate) enum Failed {
    /// It cannot fork: the start is to be made otherwise, with this warm-up.
    Unfit(Option<Routine>),
    Spawn(SpawnError),
}

impl<E: Into<SpawnError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Spawn(error.into())
    }
}

/// A child of the fork server that has answered.
pub(crate) fn start(start: &mut Start<'_>, args: &Message<'_>) -> Result<Started, Failed> {
    let mut attempts = 0;
    loop {
        let server = current(start.deadline())?;
        if server.unfit.load(Ordering::Relaxed) {
            return Err(Failed::Unfit(server.warm_up.clone()));
        }
        match attempt(&server, start, args)? {
            Attempt::Started(started) => {
                mp_core::step!("process.forkserver", 2);
                server.refill();
                return Ok(started);
            }
            // There are fewer of them each time.
            Attempt::SpareDied => continue,
            Attempt::ServerEnded => {}
        }
        let ended_here = server.ended_here.load(Ordering::Relaxed);
        let status = server.bury();
        attempts += 1;
        if attempts == ATTEMPTS {
            // Where other threads end one after the other, it need not be that there is something wrong with them.
            return Err(if ended_here {
                Failed::Unfit(server.warm_up.clone())
            } else {
                SpawnError::ForkServer(status.unwrap_or(ExitStatus::Unknown)).into()
            });
        }
    }
}

enum Attempt {
    Started(Started),
    SpareDied,
    ServerEnded,
}

fn attempt(server: &Arc<Server>, start: &mut Start<'_>, args: &Message<'_>) -> Result<Attempt, Failed> {
    // Before the order, as it may fail by what the builder asks for: no child is made in vain then.
    start.inherit(&server.place).map_err(SpawnError::from)?;
    let Some(order) = server.next(start.deadline())? else { return Ok(Attempt::ServerEnded) };
    mp_core::step!("process.forkserver", 1);
    // Looked at while the child is being made.
    let (standing, umask) = match server.observer.look() {
        Ok(seen) => seen,
        Err(error) => return server.failed(order, TransferError::Io(error).into()),
    };
    if standing != server.standing {
        server.end();
        server.discard(order);
        return Ok(Attempt::ServerEnded);
    }
    start.settle(&server.place, umask);
    match start.hand_over(&order.socket, None, args) {
        Ok(pidfd) => Ok(Attempt::Started(server.born(order, pidfd)?)),
        Err(failure) => server.failed(order, failure),
    }
}

/// The running fork server; starts it where there is none.
fn current(deadline: Deadline) -> Result<Arc<Server>, SpawnError> {
    let mut state = state();
    if let Some(server) = &state.server {
        return Ok(Arc::clone(server));
    }
    let server = Arc::new(Server::begin(state.warm_up.clone(), deadline)?);
    state.server = Some(Arc::clone(&server));
    Ok(server)
}

#[derive(Debug)]
struct Server {
    child: Arc<Child>,
    orders: OwnedFd,
    births: Births,
    /// Words that may be handed out.
    words: Mutex<Vec<u32>>,
    /// `None` once it was ended.
    spares: Mutex<Option<Vec<Order>>>,
    place: Place,
    observer: Observer,
    standing: Standing,
    warm_up: Option<Routine>,
    /// It has said that it cannot fork.
    unfit: AtomicBool,
    /// This process has ended it, or does so now.
    ended_here: AtomicBool,
}

/// An order that was sent: the word for the child's pid, this process's end of its socket.
#[derive(Debug)]
struct Order {
    word: u32,
    socket: OwnedFd,
    spare: bool,
}

impl Server {
    fn begin(warm_up: Option<Routine>, deadline: Deadline) -> Result<Server, SpawnError> {
        let observer = Observer::new()?;
        let (standing, _) = observer.look()?;
        let (births, words) = Births::create()?;
        let flags = SocketFlags::CLOEXEC;
        // Each order is a message of its own, so that threads may send at once.
        let (orders, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(io::Error::from)?;
        // Where a standard stream is closed here, none of these shall take its number.
        let (orders, theirs) = (above_streams(orders)?, above_streams(theirs)?);
        let builder = Builder::default()
            .name("mp-forkserver")
            .daemon(true)
            .start_method(StartMethod::Spawn)
            .handshake_timeout(deadline.left().unwrap_or(Duration::MAX));
        let env = exec::environment(&builder);
        let builder = builder.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
        let service =
            Service { orders: Handle::from(theirs), births: Handle::from(words), warm_up: warm_up.clone() };
        let mut place = Place::of_new(env);
        let child = launch::fork_server(&builder, Job::Serve(service))?;
        place.set_pid(child.pid);
        Ok(Server {
            child,
            orders,
            births,
            words: Mutex::new((0..u32::try_from(WORDS).unwrap_or(0)).rev().collect()),
            spares: Mutex::new(Some(Vec::new())),
            place,
            observer,
            standing,
            warm_up,
            unfit: AtomicBool::new(false),
            ended_here: AtomicBool::new(false),
        })
    }

    /// A spare, or a fresh order; none when the fork server has ended.
    fn next(&self, deadline: Deadline) -> Result<Option<Order>, SpawnError> {
        let spare = lock(&self.spares).as_mut().and_then(Vec::pop);
        if spare.is_some() { Ok(spare) } else { self.order(deadline) }
    }

    /// Sends an order; none when the fork server has ended.
    fn order(&self, deadline: Deadline) -> Result<Option<Order>, SpawnError> {
        let word = lock(&self.words).pop();
        let word =
            word.ok_or_else(|| io::Error::other("more than a thousand processes are being started"))?;
        let _ = self.births.clear(word as usize);
        let sent = exec::sockets().map_err(SpawnError::from).and_then(|(ours, theirs)| {
            Ok(self.send(word, &theirs, deadline)?.then_some(Order { word, socket: ours, spare: false }))
        });
        if !matches!(sent, Ok(Some(_))) {
            // Nothing has gone out: by invariant 3 the word is free.
            lock(&self.words).push(word);
        }
        sent
    }

    /// False when the fork server has ended.
    fn send(&self, word: u32, socket: &OwnedFd, deadline: Deadline) -> Result<bool, SpawnError> {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.orders, &[IoSlice::new(&word.to_ne_bytes())], &mut control, flags) {
                Ok(_) => return Ok(true),
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(Errno::INTR) => {}
                // Full of orders: it is busy, stopped, or still warming up.
                Err(Errno::AGAIN) => {
                    let mut polled = [PollFd::new(&self.orders, PollFlags::OUT)];
                    mp_core::park::poll_once(
                        &mut polled,
                        Some(deadline.slice(mp_core::deadline::LONG_SLICE)),
                    )?;
                    if deadline.passed() {
                        return Err(SpawnError::TimedOut);
                    }
                }
                Err(error) => return Err(TransferError::from(error).into()),
            }
        }
    }

    /// The child of `order` has answered, and brought `pidfd` if it could.
    fn born(&self, order: Order, pidfd: Option<OwnedFd>) -> Result<Started, SpawnError> {
        // By invariant 1 there is one.
        let pid = self.births.pid(order.word as usize).unwrap_or_default();
        lock(&self.words).push(order.word);
        let pidfd = match pidfd.map(above_streams) {
            Some(Ok(pidfd)) => pidfd,
            // There is no descriptor left for another, here or in the child.
            Some(Err(_)) | None => exec::adopt(pid)?,
        };
        Ok(Started { pid, pidfd, socket: order.socket })
    }

    /// The handshake over `order` has failed: whatever child there is, is ended and reaped.
    fn failed(&self, order: Order, failure: Failure) -> Result<Attempt, Failed> {
        if let Failure::NotForked(why) = failure {
            lock(&self.words).push(order.word);
            return Err(match why {
                NotForked::Unfit => {
                    self.unfit.store(true, Ordering::Relaxed);
                    Failed::Unfit(self.warm_up.clone())
                }
                // Of the moment when it was ordered, not of now.
                NotForked::System(_) if order.spare => return Ok(Attempt::SpareDied),
                NotForked::System(_) => Failed::Spawn(failure.into_error()),
            });
        }
        // By invariant 1 there is no child.
        if failure.is_end() && self.pid(&order).is_none() {
            return Ok(Attempt::ServerEnded);
        }
        let spare = order.spare;
        match self.child_of(order) {
            // It was killed while it waited, or just now: its function has not begun.
            Ok(Some(child)) if spare && failure.is_end() => {
                let _ = child.wait(Deadline::after(DYING));
                registry::leave(Arc::new(child));
                Ok(Attempt::SpareDied)
            }
            Ok(Some(child)) => Err(Failed::Spawn(launch::give_up(child, failure))),
            Ok(None) => Err(Failed::Spawn(failure.into_error())),
            Err(SpawnError::Died(_)) if spare => Ok(Attempt::SpareDied),
            Err(error) => Err(Failed::Spawn(error)),
        }
    }

    /// The child of an order that came to nothing, if there is one. Where that is in doubt, the fork server ends. The error is that
    /// others have reaped it, or that it was ended and reaped for lack of a descriptor.
    fn child_of(&self, order: Order) -> Result<Option<Child>, SpawnError> {
        let Order { word, socket, .. } = order;
        let mut pid = self.births.pid(word as usize);
        if pid.is_none() {
            self.end();
            pid = self.births.pid(word as usize);
        } else {
            lock(&self.words).push(word);
        }
        let Some(pid) = pid else { return Ok(None) };
        let pidfd = exec::adopt(pid)?;
        Ok(Some(Child::new(Started { pid, pidfd, socket }, "unborn".into(), None, Tails::default())))
    }

    /// Sends orders until there are as many spares as are wanted.
    fn refill(&self) {
        loop {
            // Held over the order, which never waits: threads that refill at once make no more than are wanted.
            let mut place = lock(&self.spares);
            let Some(spares) = place.as_mut() else { return };
            if spares.len() >= WANTED.load(Ordering::Relaxed) {
                return;
            }
            // The next start tells what is wrong.
            let Ok(Some(order)) = self.order(Deadline::after(Duration::ZERO)) else { return };
            // The youngest is used last: the others have had time to come up.
            spares.insert(0, Order { spare: true, ..order });
        }
    }

    /// Ends it and its spares, because this process does not want it any more.
    fn end(&self) {
        self.ended_here.store(true, Ordering::Relaxed);
        self.bury();
    }

    /// Ends it and its spares where it is not dead already, and tells how it ended.
    fn bury(&self) -> Option<ExitStatus> {
        {
            let mut state = state();
            if state.server.as_ref().is_some_and(|server| std::ptr::eq(&**server, self)) {
                state.server = None;
            }
        }
        let _ = self.child.signal(Signal::KILL);
        let status = self.child.wait(Deadline::after(DYING)).ok().flatten();
        if status.is_none() {
            registry::leave(Arc::clone(&self.child));
        }
        let spares = lock(&self.spares).take();
        // By invariant 1 the others never come to be.
        for order in spares.into_iter().flatten().filter(|order| self.pid(order).is_some()) {
            self.discard(order);
        }
        status
    }

    /// Ends the spares that are more than wanted. Those that are not made yet stay, for the next starts.
    fn let_surplus_go(&self) {
        let surplus: Vec<Order> = {
            let mut place = lock(&self.spares);
            let Some(spares) = place.as_mut() else { return };
            let mut more = spares.len().saturating_sub(WANTED.load(Ordering::Relaxed));
            let goes = |order: &mut Order| {
                let goes = more > 0 && self.pid(order).is_some();
                more -= usize::from(goes);
                goes
            };
            spares.extract_if(.., goes).collect()
        };
        for order in surplus {
            self.discard(order);
        }
    }

    /// Ends the child of `order`, which has not begun to do anything, also one that is stopped; it is reaped in the background.
    fn discard(&self, order: Order) {
        let Ok(Some(child)) = self.child_of(order) else { return };
        // One whose socket is closed is dead or dying. That it is open says that it lives, so its pid is still its own.
        if !is_closed(&child.socket) {
            let _ = child.signal(Signal::KILL);
        }
        registry::leave(Arc::new(child));
    }

    /// In a forked child of this process: lets go of the lines to the fork server and its spares.
    fn disown(&self) {
        blind(self.orders.as_fd());
        // Locked by another thread only where this process was forked beside it.
        if let Ok(mut spares) = self.spares.try_lock() {
            *spares = None;
        }
    }

    fn pid(&self, order: &Order) -> Option<u32> {
        self.births.pid(order.word as usize)
    }
}

fn is_closed(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    matches!(mp_core::park::poll_once(&mut polled, Some(Duration::ZERO)), Ok(true))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
