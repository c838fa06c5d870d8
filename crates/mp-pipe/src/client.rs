//! The client's side of a listener.

use crate::auth::{Key, NONCE, Nonces, Role, random};
use crate::handshake::{Answer, Hello, Verdict, WORDS, fd_of, is_same_user, peer_of, send_now};
use crate::listener_error::{AuthenticationError, ConnectError, Peer};
use crate::{Address, Connection};
use interprocess::ConnectWaitMode;
use interprocess::local_socket::{ConnectOptions, Stream};
use mp_core::deadline::{Deadline, LONG_SLICE};
use mp_core::socket::{self, TransferError, Until};
use mp_core::{park, wire};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Connects to a [`Listener`](crate::Listener) in another process, which must have the same key, or also none.
///
/// Waits until the listener accepts. What comes back is a [`Connection`] over shared memory, exactly as from
/// [`pipe()`](crate::pipe()). [`Client`] is the form with a time-out.
///
/// # Errors
///
/// See [`ConnectError`].
///
/// # Examples
///
/// ```
/// use mp_pipe::{Address, Key, Listener, connect};
///
/// let (address, key) = (Address::unique()?, Key::random()?);
/// let mut listener = Listener::bind(&address, key.clone())?;
/// let client = std::thread::spawn(move || connect(address, key)); // in life: another process
/// let (mut connection, peer) = listener.accept()?;
/// assert_eq!(peer.pid, Some(std::process::id()));
/// connection.send("welcome".to_owned())?;
/// assert_eq!(client.join().unwrap()?.recv::<String>()?, "welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Client")]
#[doc(alias = "answer_challenge")]
pub fn connect(address: impl Into<Address>, key: impl Into<Option<Key>>) -> Result<Connection, ConnectError> {
    let mut client = Client::new(address);
    client.key = key.into();
    client.connect().map(|(connection, _)| connection)
}

/// Connects to a [`Listener`](crate::Listener), with options.
///
/// # Examples
///
/// ```
/// use mp_pipe::{Address, Client, ConnectError};
/// use std::time::Duration;
///
/// let nobody = Client::new(Address::unique()?).timeout(Duration::from_secs(5)).connect();
/// assert!(matches!(nobody, Err(ConnectError::NoListener(_))));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    key: Option<Key>,
    timeout: Option<Duration>,
}

impl Client {
    /// A client for the listener at `address`, without a key and without a time-out.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Client {
        Client { address: address.into(), key: None, timeout: None }
    }

    /// Proves that it knows `key`, and asks the same of the listener.
    #[must_use]
    pub fn key(mut self, key: Key) -> Client {
        self.key = Some(key);
        self
    }

    /// Gives up after `timeout`, which covers the whole of [`connect`](Client::connect).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = Some(timeout);
        self
    }

    /// Connects; waits until the listener accepts. Also tells who listens.
    ///
    /// When the listener dies meanwhile, this fails; a listener that lives and never accepts makes it wait for the
    /// time-out.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(&self) -> Result<(Connection, Peer), ConnectError> {
        let deadline = Deadline::after_option(self.timeout);
        let stream = dial(&self.address, deadline)?;
        mp_core::step!("pipe.connect", 1);
        let peer = peer_of(&stream).map_err(ConnectError::Io)?;
        if self.key.is_none() && !is_same_user(peer) {
            return Err(ConnectError::Authentication(AuthenticationError::OtherUser));
        }
        self.introduce(fd_of(&stream), deadline)?;
        let connection = receive(fd_of(&stream), deadline)?;
        mp_core::step!("pipe.connect", 6);
        Ok((connection, peer))
    }

    /// Says who we are, and makes sure of the listener.
    fn introduce(&self, fd: BorrowedFd<'_>, deadline: Deadline) -> Result<(), ConnectError> {
        let nonce: [u8; NONCE] = random().map_err(ConnectError::Io)?;
        say(fd, &Hello { keyed: self.key.is_some(), nonce }.to_bytes())?;
        mp_core::step!("pipe.connect", 2);
        let answer = listen(fd, deadline)?;
        mp_core::step!("pipe.connect", 3);
        let (key, nonces) = match (answer.verdict, &self.key) {
            (Verdict::Welcome, None) => return Ok(()),
            (Verdict::Prove, Some(key)) => (key, Nonces { client: nonce, server: answer.word }),
            (Verdict::Refused(error), _) => return Err(ConnectError::Authentication(error)),
            // Lets us in without having proved anything.
            (Verdict::Welcome, Some(_)) => {
                return Err(ConnectError::Authentication(AuthenticationError::Impostor));
            }
            (Verdict::Prove, None) => return Err(ConnectError::Malformed),
        };
        say(fd, &key.proof(Role::Client, &nonces))?;
        mp_core::step!("pipe.connect", 4);
        let answer = listen(fd, deadline)?;
        match answer.verdict {
            Verdict::Welcome if key.verify(Role::Server, &nonces, &answer.word) => {}
            Verdict::Refused(error) => return Err(ConnectError::Authentication(error)),
            _ => return Err(ConnectError::Authentication(AuthenticationError::Impostor)),
        }
        mp_core::step!("pipe.connect", 5);
        Ok(())
    }
}

/// A connected socket, with the listener's queue of waiting clients as the first thing that may make us wait.
fn dial(address: &Address, deadline: Deadline) -> Result<Stream, ConnectError> {
    let mut pause = Duration::from_millis(1);
    loop {
        let name = address.to_name().map_err(ConnectError::Io)?;
        // Without blocking: a stopped listener with a full queue would keep a blocking connect for ever.
        let options = ConnectOptions::new().name(name).wait_mode(ConnectWaitMode::Deferred);
        let stream = options.connect_sync().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ConnectError::NoListener(address.clone())
            }
            _ => ConnectError::Io(error),
        })?;
        // A full queue of a Unix socket leaves it unconnected, not "in progress".
        let Stream::UdSocket(socket) = &stream;
        if socket.inner().peer_addr().is_ok() {
            return Ok(stream);
        }
        if deadline.passed() {
            return Err(ConnectError::TimedOut);
        }
        std::thread::sleep(deadline.slice(pause));
        pause = (pause * 2).min(mp_core::deadline::SLICE);
    }
}

fn say(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), ConnectError> {
    match send_now(fd, bytes) {
        // A listener that refused has closed its side and left its reason to be read.
        Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(error) => Err(ConnectError::Io(error.into())),
    }
}

fn listen(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<Answer, ConnectError> {
    let mut bytes = [0; WORDS];
    let mut heard = 0;
    while heard < WORDS {
        match rustix::net::recv(fd, &mut bytes[heard..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Err(ConnectError::Gone),
            Ok((count, _)) => heard += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.passed() => return Err(ConnectError::TimedOut),
            Err(Errno::AGAIN) => {
                park::sleep_on_fds(&[fd], Some(deadline.slice(LONG_SLICE))).map_err(ConnectError::Io)?;
            }
            Err(error) => return Err(ConnectError::Io(error.into())),
        }
    }
    Answer::from_bytes(&bytes).ok_or(ConnectError::Malformed)
}

fn receive(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<Connection, ConnectError> {
    let received = socket::receive(fd, &Until { deadline, gone: None }).map_err(|error| match error {
        TransferError::Closed | TransferError::Gone => ConnectError::Gone,
        TransferError::TimedOut => ConnectError::TimedOut,
        TransferError::Malformed => ConnectError::Malformed,
        TransferError::Io(error) => ConnectError::Io(error),
        other => ConnectError::Io(io::Error::other(other)),
    })?;
    wire::decode(received.encoding, Cow::Owned(received.bytes), received.handles)
        .map_err(|error| ConnectError::Io(io::Error::new(io::ErrorKind::InvalidData, error)))
}
