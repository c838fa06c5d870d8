//! `Listener`: connections between programs that share nothing but an address.

use crate::address::Place;
use crate::handshake::{Handshake, Progress};
use crate::socket_file::{self, SocketFile};
use crate::{AcceptError, Address, Connection, Key, Peer};
use interprocess::local_socket::{ListenerNonblockingMode, ListenerOptions, traits::Listener as _};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use mp_core::deadline::{Deadline, LONG_SLICE, SLICE};
use mp_core::{Waitable, park};
use rustix::event::epoll;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// So many clients may be in the middle of a handshake; one more, and the one that is at it for longest is sent away.
const MOST_PENDING: usize = 128;

/// So long a client has kept silent that gives its descriptor for another one, when there is none left.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether those who knock are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// No descriptor is left for the next one: those in a handshake come first.
    Shut,
}

/// Waits for clients at an [`Address`] and gives each a [`Connection`].
///
/// The handshake goes over a local socket: both sides see who the other is ([`Peer`]), and with a [`Key`] both prove that they know it.
/// Then the listener makes a [`pipe()`](crate::pipe()) and hands one end over, so messages go through shared memory and never
/// touch the socket.
///
/// Without a key, only processes of the same user are let in, and the socket file is theirs alone.
///
/// A client that connects and keeps silent is in nobody's way: others are accepted meanwhile, and it is sent away after ten
/// seconds, or after one when its descriptor is the last and somebody else comes. Handshakes go on only inside
/// [`accept`](Listener::accept) and its siblings, so clients wait while nobody calls them.
///
/// Dropping the listener closes it and removes its socket file. A killed one leaves the file behind; the next
/// [`bind`](Listener::bind) to the same path clears it away.
///
/// # Examples
///
/// See [`connect`](crate::connect).
#[doc(alias = "deliver_challenge")]
pub struct Listener {
    // The file goes first: as long as it is there, somebody listens.
    file: Option<SocketFile>,
    socket: interprocess::local_socket::Listener,
    address: Address,
    key: Option<Key>,
    pending: VecDeque<Handshake>,
    /// An epoll descriptor over the socket and all handshakes, from the first time that somebody asks.
    poller: OnceLock<OwnedFd>,
}

impl Listener {
    /// Listens at `address` for clients that know `key`, or for those of the same user when it is `None`.
    ///
    /// A socket file that a killed listener left at a path is replaced. A living listener is never disturbed, and another
    /// kind of file is never removed.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody listens there, or another kind of file is in the way; else what the system says.
    pub fn bind(address: impl Into<Address>, key: impl Into<Option<Key>>) -> io::Result<Listener> {
        let (address, key) = (address.into(), key.into());
        let named = |error: io::Error| io::Error::new(error.kind(), format!("listen at {address}: {error}"));
        let (socket, file) = match address.place() {
            Place::Path(path) => {
                let (socket, file) =
                    socket_file::bind(path, || listen(&address, key.is_none())).map_err(named)?;
                (socket, Some(file))
            }
            Place::Name(_) => (listen(&address, false).map_err(named)?, None),
        };
        Ok(Listener { file, socket, address, key, pending: VecDeque::new(), poller: OnceLock::new() })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Waits for the next client; returns its connection, and who it is.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]: most say that one client failed, and `accept` can be called again. A client that leaves without
    /// a word is no error.
    pub fn accept(&mut self) -> Result<(Connection, Peer), AcceptError> {
        loop {
            if let Some(accepted) = self.accept_until(Deadline::NEVER)? {
                return Ok(accepted);
            }
        }
    }

    /// As [`accept`](Listener::accept); `None` when no client got in within `timeout`. A time-out of zero looks once, and goes
    /// on with handshakes that have begun.
    ///
    /// # Errors
    ///
    /// As [`accept`](Listener::accept).
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<Option<(Connection, Peer)>, AcceptError> {
        self.accept_until(Deadline::after(timeout))
    }

    /// As [`accept_timeout`](Listener::accept_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Listener::accept).
    pub fn accept_deadline(&mut self, deadline: Instant) -> Result<Option<(Connection, Peer)>, AcceptError> {
        self.accept_until(Deadline::at(deadline))
    }

    fn accept_until(&mut self, deadline: Deadline) -> Result<Option<(Connection, Peer)>, AcceptError> {
        loop {
            let door = self.welcome_all()?;
            if let Some(accepted) = self.go_on()? {
                return Ok(Some(accepted));
            }
            if deadline.passed() {
                return Ok(None);
            }
            self.sleep(door, deadline).map_err(AcceptError::Io)?;
        }
    }

    /// Begins a handshake with each client that waits at the door.
    fn welcome_all(&mut self) -> Result<Door, AcceptError> {
        loop {
            match self.socket.accept().and_then(Handshake::new) {
                Ok(handshake) => {
                    mp_core::step!("pipe.accept", 1);
                    if self.pending.len() >= MOST_PENDING {
                        self.pending.pop_front();
                    }
                    if let Some(poller) = self.poller.get() {
                        watch(poller, handshake.fd()).map_err(AcceptError::Io)?;
                    }
                    self.pending.push_back(handshake);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Door::Open),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // The kernel says so also when nobody knocks.
                    _ if out_of_descriptors(&error) && !self.pending.is_empty() => {
                        if !self.send_a_silent_one_away().map_err(AcceptError::Io)? {
                            return Ok(Door::Shut);
                        }
                    }
                    _ => return Err(AcceptError::Io(error)),
                },
            }
        }
    }

    /// The one that is at it for longest, if it keeps silent and somebody waits for its descriptor. Who is quick is never sent away:
    /// two of them would take each other's place for ever.
    fn send_a_silent_one_away(&mut self) -> io::Result<bool> {
        let silent = self.pending.front().is_some_and(|first| first.silence() >= SILENCE);
        if !silent || !park::sleep_on_fds(&[self.socket()], Some(Duration::ZERO))? {
            return Ok(false);
        }
        Ok(self.pending.pop_front().is_some())
    }

    /// Goes on with each handshake until one is done or fails; the others stay for the next call.
    fn go_on(&mut self) -> Result<Option<(Connection, Peer)>, AcceptError> {
        for _ in 0..self.pending.len() {
            let Some(mut handshake) = self.pending.pop_front() else { break };
            match handshake.advance(self.key.as_ref())? {
                Progress::Waiting => self.pending.push_back(handshake),
                Progress::LeftSilently => {}
                Progress::Connected(connection, peer) => return Ok(Some((*connection, peer))),
            }
        }
        Ok(None)
    }

    fn socket(&self) -> BorrowedFd<'_> {
        match &self.socket {
            interprocess::local_socket::Listener::UdSocket(socket) => socket.as_fd(),
        }
    }

    /// Until somebody knocks, or a client in a handshake says something or has used up its patience.
    fn sleep(&self, door: Door, deadline: Deadline) -> io::Result<()> {
        let mut fds: Vec<BorrowedFd<'_>> = self.pending.iter().map(Handshake::fd).collect();
        // Nothing tells when there are descriptors again.
        let mut slice = SLICE;
        if door == Door::Open {
            fds.push(self.socket());
            let patience = self.pending.iter().filter_map(|handshake| handshake.patience().left()).min();
            slice = patience.map_or(LONG_SLICE, |left| left.min(LONG_SLICE));
        }
        let slice = deadline.slice(slice);
        park::sleep_on_fds(&fds, Some(slice)).map(drop)
    }
}

fn listen(address: &Address, private: bool) -> io::Result<interprocess::local_socket::Listener> {
    let options = ListenerOptions::new()
        .name(address.to_name()?)
        .nonblocking(ListenerNonblockingMode::Accept)
        // Removed by us: only while it is still ours, and never by a forked child.
        .reclaim_name(false);
    if private { options.mode(0o600) } else { options }.create_sync()
}

fn out_of_descriptors(error: &io::Error) -> bool {
    let out = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| out.contains(&code))
}

/// Readable from now on when `fd` is. A handshake that ends closes its socket, which takes it out again.
fn watch(poller: &OwnedFd, fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(epoll::add(poller, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
}

impl Waitable for Listener {
    /// Readable when a client waits at the door, or one in a handshake has said something; perhaps for nothing. That a client
    /// has kept silent for too long does not show here, only in [`is_ready`](Waitable::is_ready).
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if self.poller.get().is_none() {
            let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            watch(&poller, self.socket())?;
            for handshake in &self.pending {
                watch(&poller, handshake.fd())?;
            }
            // Another thread may have been faster; its poller is as good.
            let _ = self.poller.set(poller);
        }
        self.poller.get().map(AsFd::as_fd).ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Whether [`accept_timeout`](Listener::accept_timeout) of zero has something to do. It may still give no connection: then the
    /// client has not proved itself yet.
    fn is_ready(&self) -> io::Result<bool> {
        let impatient = self.pending.iter().any(|handshake| handshake.patience().passed());
        Ok(impatient || park::sleep_on_fds(&[self.wait_fd()?], Some(Duration::ZERO))?)
    }
}

impl AsFd for Listener {
    /// Readable when a client waits at the door, or one in a handshake has said something; perhaps for nothing. Call
    /// [`accept_timeout`](Listener::accept_timeout) with zero then, until it gives nothing.
    ///
    /// # Panics
    ///
    /// When no descriptors are left on the first call: [`Waitable::wait_fd`] is the form with an error.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait_fd().expect("a descriptor for polling a listener")
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("keyed", &self.key.is_some())
            .field("in_handshake", &self.pending.len())
            .field("removes_file", &self.file.is_some())
            .finish_non_exhaustive()
    }
}
