//! What an end has beside its rings: the socket, whether it was sent away, and how it sleeps.

use crate::packet::{self, Arrived, Inbox};
use mp_core::deadline::{Deadline, SLICE};
use mp_core::handle::Departure;
use mp_core::{Identity, news, park};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const HERE: u8 = 0;
const LEAVING: u8 = 1;
const MOVED: u8 = 2;

/// Why an end cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It was, or is being, sent to another process.
    Moved,
    /// Another living process uses it.
    InUse,
}

/// The socket of one end, and whether the end is still here.
///
/// An end that was split has two, one for each half. Both sleep on the one socket, and whoever wakes reads what is in it; so each has
/// an eventfd besides, by which the other passes on that there was something. What was rung for has been published before, and whoever
/// is woken looks for it after he has read the eventfd, so nothing is missed.
#[derive(Debug)]
pub(crate) struct Link(Arc<Shared>, Option<Half>);

/// Which half of an end that was split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Sending = 0,
    Receiving = 1,
}

impl Half {
    fn other(self) -> Half {
        match self {
            Half::Sending => Half::Receiving,
            Half::Receiving => Half::Sending,
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// Gone once the end has moved: only the other process keeps it open then, so that its death is seen.
    socket: Mutex<Option<Arc<OwnedFd>>>,
    inbox: Mutex<Inbox>,
    /// An eventfd that is made readable when the end moves: whoever polls for it has something to learn.
    moved: OnceLock<Arc<OwnedFd>>,
    /// By which the halves of an end that was split pass bells on; one for each half.
    passed_on: OnceLock<[OwnedFd; 2]>,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, inbox: Inbox) -> Link {
        let socket = Arc::new(socket);
        mp_core::ends::enter(&socket);
        let shared = Shared {
            state: AtomicU8::new(HERE),
            socket: Mutex::new(Some(socket)),
            inbox: Mutex::new(inbox),
            moved: OnceLock::new(),
            passed_on: OnceLock::new(),
        };
        Link(Arc::new(shared), None)
    }

    /// One for each half, the sending one first.
    pub(crate) fn halves(&self) -> io::Result<(Link, Link)> {
        if self.0.passed_on.get().is_none() {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let _ = self.0.passed_on.set([eventfd(0, flags)?, eventfd(0, flags)?]);
        }
        let half = |half| Link(Arc::clone(&self.0), Some(half));
        Ok((half(Half::Sending), half(Half::Receiving)))
    }

    /// The whole again.
    pub(crate) fn whole(&self) -> Link {
        Link(Arc::clone(&self.0), None)
    }

    /// Whether both are of the same end.
    pub(crate) fn is_of_same_end(&self, other: &Link) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Tells the other half what this one has heard.
    fn pass_on(&self, inbox: &mut Inbox) {
        let Some(half) = self.1 else { return };
        if !inbox.heard() {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // These fail only when they are readable already.
        if let Some(passed_on) = self.0.passed_on.get() {
            let _ = rustix::io::write(&passed_on[half.other() as usize], &one);
        }
        if let Some(poller) = self.0.moved.get().filter(|_| half == Half::Sending) {
            let _ = rustix::io::write(poller, &one);
        }
    }

    /// What the other half passes on by.
    fn passed_on(&self) -> Option<&OwnedFd> {
        Some(&self.0.passed_on.get()?[self.1? as usize])
    }

    /// Whether this process may use the end whose lease is `lease`: one relaxed load each when all is well.
    #[inline(always)]
    pub(crate) fn check(&self, lease: &AtomicU64) -> Result<(), Unusable> {
        if self.0.state.load(Relaxed) != HERE {
            return Err(Unusable::Moved);
        }
        let me = Identity::current_packed();
        let holder = lease.load(Relaxed);
        if holder == me { Ok(()) } else { take_over(lease, holder, me) }
    }

    /// The socket, unless the end has moved.
    pub(crate) fn socket(&self) -> Result<Arc<OwnedFd>, Unusable> {
        lock(&self.0.socket).clone().ok_or(Unusable::Moved)
    }

    /// Whether the other end is gone.
    pub(crate) fn hung_up(&self) -> bool {
        self.socket().is_ok_and(|socket| packet::hung_up(&socket))
    }

    /// Wakes the other end; false when it is gone.
    pub(crate) fn ring(&self) -> bool {
        self.socket().is_ok_and(|socket| packet::ring_bell(&socket))
    }

    /// Makes `eventfd` readable when the end moves away.
    pub(crate) fn tell_when_moved(&self, eventfd: Arc<OwnedFd>) {
        let _ = self.0.moved.set(eventfd);
    }

    /// Lets bells fall silent.
    pub(crate) fn drain(&self) -> io::Result<()> {
        let Ok(socket) = self.socket() else { return Ok(()) };
        let mut inbox = lock(&self.0.inbox);
        // Not once the end began to leave: handles that arrive from then on are for where it goes.
        if self.0.state.load(Relaxed) != HERE {
            return Ok(());
        }
        let drained = inbox.drain(&socket);
        self.pass_on(&mut inbox);
        drained
    }

    /// The handles that the other end sent under `number`.
    pub(crate) fn take_handles(&self, number: u64, count: u16) -> io::Result<Vec<OwnedFd>> {
        let socket = self.socket().map_err(|_| io::ErrorKind::NotFound)?;
        let mut inbox = lock(&self.0.inbox);
        let taken = inbox.take(&socket, number, count.into());
        self.pass_on(&mut inbox);
        taken
    }

    /// Whether whoever waits here may sleep where no bell is heard: nobody else waits for bells.
    pub(crate) fn may_doze(&self) -> bool {
        self.1.is_none() && Arc::strong_count(&self.0) == 1 && self.0.moved.get().is_none()
    }

    /// Sleeps until the other end rings or is gone, at most a slice; true when it is gone.
    pub(crate) fn sleep(&self, deadline: Deadline) -> io::Result<bool> {
        let Ok(socket) = self.socket() else { return Ok(false) };
        let slice = Some(deadline.slice(SLICE));
        let gone = match self.passed_on() {
            None if slice == Some(SLICE) && Arc::strong_count(&self.0) == 1 => {
                // One call that sleeps and takes the bell: on one core that is what an answer costs. Not when a message that
                // carries this end away may want the inbox meanwhile.
                let mut inbox = lock(&self.0.inbox);
                return if self.0.state.load(Relaxed) == HERE { inbox.sleep(&socket) } else { Ok(false) };
            }
            None => sleep_on(&mut [PollFd::new(&*socket, PollFlags::IN)], slice)?,
            Some(passed_on) => {
                let mut polled =
                    [PollFd::new(&*socket, PollFlags::IN), PollFd::new(passed_on, PollFlags::IN)];
                let gone = sleep_on(&mut polled, slice)?;
                // Read before the caller looks for what was passed on. It fails when there is nothing.
                let _ = rustix::io::read(passed_on, &mut [0; 8]);
                gone
            }
        };
        self.drain()?;
        Ok(gone)
    }

    /// For a message that carries this end: the socket with what tells whether it was sent, and the handles that have
    /// arrived and were not asked for yet.
    pub(crate) fn depart(&self) -> Result<(Arc<OwnedFd>, Leaving, Arrived), Unusable> {
        let socket = self.socket()?;
        // Under the inbox's lock: nothing is taken from the socket after the list of what was taken is made.
        let inbox = lock(&self.0.inbox);
        let here = self.0.state.compare_exchange(HERE, LEAVING, AcqRel, Acquire);
        here.map_err(|_| Unusable::Moved)?;
        let arrived = inbox.arrived().cloned().collect();
        Ok((socket, Leaving(Arc::clone(&self.0)), arrived))
    }
}

/// Sleeps until one is ready, at most a slice; whether the first one is hung up.
fn sleep_on(polled: &mut [PollFd<'_>], slice: Option<Duration>) -> io::Result<bool> {
    park::poll_once(polled, slice)?;
    let gone =
        polled.first().is_some_and(|first| first.revents().intersects(PollFlags::HUP | PollFlags::ERR));
    if gone {
        news::of_a_death();
    }
    Ok(gone)
}

/// An end on its way: it is gone once the message that carries it is committed, and back here when that fails.
pub(crate) struct Leaving(Arc<Shared>);

impl Departure for Leaving {
    fn sent(&mut self) {
        self.0.state.store(MOVED, Release);
        let socket = lock(&self.0.socket).take();
        let inbox = std::mem::take(&mut *lock(&self.0.inbox));
        drop((socket, inbox));
        if let Some(moved) = self.0.moved.get() {
            // Fails only when it is readable already.
            let _ = rustix::io::write(moved, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // Back from LEAVING; MOVED stays.
        let _ = self.0.state.compare_exchange(LEAVING, HERE, AcqRel, Acquire);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside stays whole at every step: a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lease names another process: a living one keeps it, a dead one (or nobody) loses it.
#[cold]
fn take_over(lease: &AtomicU64, holder: u64, me: u64) -> Result<(), Unusable> {
    if Identity::packed_is_alive(holder) {
        return Err(Unusable::InUse);
    }
    match lease.compare_exchange(holder, me, AcqRel, Acquire) {
        Ok(_) => Ok(()),
        Err(_) => Err(Unusable::InUse),
    }
}

/// Whoever is handed an end has it from now on: the sender's handle answers `Moved` since it began to leave.
pub(crate) fn claim(lease: &AtomicU64) {
    lease.store(Identity::current().pack(), Release);
}
