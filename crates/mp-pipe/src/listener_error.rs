//! What can go wrong between a listener and a client.

use crate::Address;
use std::{error, fmt, io};

/// Who is at the other end of a local socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its process id, unless it is outside of this pid namespace.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} of user {}", self.uid),
            None => write!(f, "a process of user {}", self.uid),
        }
    }
}

/// Why one side does not take the other for who it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The client does not know the listener's key.
    WrongKey,
    /// The listener asks for a key, and the client has none.
    KeyNeeded,
    /// The client has a key, and the listener has none that it could prove.
    NoKeyThere,
    /// The listener could not prove that it knows the key: somebody has taken its place.
    Impostor,
    /// Without a key both sides must be of one user.
    OtherUser,
}

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthenticationError::WrongKey => "the client's key is not the listener's",
            AuthenticationError::KeyNeeded => "the listener asks for a key, and the client has none",
            AuthenticationError::NoKeyThere => "the client has a key, and the listener has none",
            AuthenticationError::Impostor => "the listener does not know the key",
            AuthenticationError::OtherUser => "listener and client are of different users: give both a key",
        })
    }
}

impl error::Error for AuthenticationError {}

/// Why no connection was accepted.
///
/// Most say that *one client* failed ([`is_of_client`](AcceptError::is_of_client)); the listener goes on and `accept` can be called again.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// A client is not let in.
    Authentication(Peer, AuthenticationError),
    /// A client went away in the middle of the handshake: it gave up, or died.
    Gone(Peer),
    /// A client said nothing for too long.
    Silent(Peer),
    /// A client speaks another protocol.
    Malformed(Peer),
    /// The system refused: no descriptors left, no memory.
    Io(io::Error),
}

impl AcceptError {
    /// Whether one client failed, and the listener is as good as before.
    #[must_use]
    pub const fn is_of_client(&self) -> bool {
        !matches!(self, AcceptError::Io(_))
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::Authentication(peer, error) => write!(f, "{peer} is not let in: {error}"),
            AcceptError::Gone(peer) => write!(f, "{peer} went away in the middle of the handshake"),
            AcceptError::Silent(peer) => write!(f, "{peer} connected and said nothing for too long"),
            AcceptError::Malformed(peer) => write!(f, "{peer} speaks another protocol"),
            AcceptError::Io(error) => write!(f, "accept a connection: {error}"),
        }
    }
}

impl error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            AcceptError::Authentication(_, error) => Some(error),
            AcceptError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a client was not connected.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there.
    NoListener(Address),
    /// One side does not take the other for who it should be.
    Authentication(AuthenticationError),
    /// The listener went away, or died, in the middle of the handshake.
    Gone,
    /// The time was over before the listener accepted.
    TimedOut,
    /// What listens there speaks another protocol.
    Malformed,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::NoListener(address) => write!(f, "nobody listens at {address}"),
            ConnectError::Authentication(error) => error.fmt(f),
            ConnectError::Gone => f.write_str("the listener went away in the middle of the handshake"),
            ConnectError::TimedOut => f.write_str("timed out before the listener accepted"),
            ConnectError::Malformed => f.write_str("what listens there speaks another protocol"),
            ConnectError::Io(error) => write!(f, "connect to a listener: {error}"),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            ConnectError::Authentication(error) => Some(error),
            ConnectError::Io(error) => Some(error),
            _ => None,
        }
    }
}
