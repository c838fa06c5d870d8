//! What an end has beside its rings: the socket, whether it was sent away, and how it sleeps.

use crate::packet::{self, Arrived, Inbox};
use mp_core::deadline::{Deadline, SLICE};
use mp_core::handle::Departure;
use mp_core::{Identity, park};
use rustix::event::{PollFd, PollFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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
#[derive(Debug)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// Gone once the end has moved: only the other process keeps it open then, so that its death is seen.
    socket: Mutex<Option<Arc<OwnedFd>>>,
    inbox: Mutex<Inbox>,
    /// An eventfd that is made readable when the end moves: whoever polls for it has something to learn.
    moved: OnceLock<Arc<OwnedFd>>,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, inbox: Inbox) -> Link {
        let socket = Arc::new(socket);
        mp_core::ends::enter(&socket);
        Link(Arc::new(Shared {
            state: AtomicU8::new(HERE),
            socket: Mutex::new(Some(socket)),
            inbox: Mutex::new(inbox),
            moved: OnceLock::new(),
        }))
    }

    /// Whether this process may use the end whose lease is `lease`: one relaxed load each when all is well.
    #[inline]
    pub(crate) fn check(&self, lease: &AtomicU64) -> Result<(), Unusable> {
        if self.0.state.load(Relaxed) != HERE {
            return Err(Unusable::Moved);
        }
        let me = Identity::current().pack();
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
        if self.0.state.load(Relaxed) == HERE { inbox.drain(&socket) } else { Ok(()) }
    }

    /// The handles that the other end sent under `number`.
    pub(crate) fn take_handles(&self, number: u64, count: u16) -> io::Result<Vec<OwnedFd>> {
        let socket = self.socket().map_err(|_| io::ErrorKind::NotFound)?;
        lock(&self.0.inbox).take(&socket, number, count.into())
    }

    /// Sleeps until the other end rings or is gone, at most a slice; true when it is gone.
    pub(crate) fn sleep(&self, deadline: Deadline) -> io::Result<bool> {
        let Ok(socket) = self.socket() else { return Ok(false) };
        let mut polled = [PollFd::new(&*socket, PollFlags::IN)];
        park::poll_once(&mut polled, Some(deadline.slice(SLICE)))?;
        let gone = polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
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
