//! What a listener and a client say to each other before they have a connection.
//!
//! | who | says | bytes |
//! | --- | --- | --- |
//! | client | [`Hello`]: "I have (not) a key", its random number | 40 |
//! | listener | [`Answer`]: "go on", "prove it", or why not; its random number | 40 |
//! | client, with a key | its proof | 32 |
//! | listener, with a key | [`Answer`]: "welcome" or "wrong key"; its proof | 40 |
//! | listener | one end of a fresh pipe, as a message with handles | |
//!
//! The client proves first: a listener never signs anything for strangers. Either side may stop or die at any point; the
//! other sees the socket closed. On the listener's side nothing here blocks: each client is a small state machine that
//! goes on when there is something to read, so that a silent one is in nobody's way.

use crate::auth::{Key, NONCE, Nonces, PROOF, Role, random};
use crate::listener_error::{AcceptError, AuthenticationError, Peer};
use crate::{Connection, pipe};
use interprocess::local_socket::{Stream, traits::StreamCommon};
use mp_core::socket::{self, Until};
use mp_core::{Deadline, wire};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long a client may keep silent.
const PATIENCE: Duration = Duration::from_secs(10);

const MAGIC: [u8; 4] = *b"MPL1";
/// Bytes of a hello and of an answer.
pub(crate) const WORDS: usize = 8 + NONCE;

/// The client's first words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello {
    pub(crate) keyed: bool,
    pub(crate) nonce: [u8; NONCE],
}

impl Hello {
    pub(crate) fn to_bytes(self) -> [u8; WORDS] {
        words(self.keyed.into(), &self.nonce)
    }

    fn from_bytes(bytes: &[u8; WORDS]) -> Option<Hello> {
        let (code, nonce) = unwords(bytes)?;
        Some(Hello { keyed: code == 1, nonce })
    }
}

/// The listener's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection follows.
    Welcome,
    /// Prove that you know the key.
    Prove,
    Refused(AuthenticationError),
}

/// The listener's words: a verdict, and its random number or its proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) word: [u8; NONCE],
}

impl Answer {
    fn to_bytes(self) -> [u8; WORDS] {
        let code = match self.verdict {
            Verdict::Welcome => 0,
            Verdict::Prove => 1,
            Verdict::Refused(AuthenticationError::KeyNeeded) => 2,
            Verdict::Refused(AuthenticationError::NoKeyThere) => 3,
            Verdict::Refused(AuthenticationError::OtherUser) => 4,
            Verdict::Refused(_) => 5,
        };
        words(code, &self.word)
    }

    pub(crate) fn from_bytes(bytes: &[u8; WORDS]) -> Option<Answer> {
        let (code, word) = unwords(bytes)?;
        let verdict = match code {
            0 => Verdict::Welcome,
            1 => Verdict::Prove,
            2 => Verdict::Refused(AuthenticationError::KeyNeeded),
            3 => Verdict::Refused(AuthenticationError::NoKeyThere),
            4 => Verdict::Refused(AuthenticationError::OtherUser),
            5 => Verdict::Refused(AuthenticationError::WrongKey),
            _ => return None,
        };
        Some(Answer { verdict, word })
    }
}

fn words(code: u8, word: &[u8; NONCE]) -> [u8; WORDS] {
    let mut bytes = [0; WORDS];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = code;
    bytes[8..].copy_from_slice(word);
    bytes
}

fn unwords(bytes: &[u8; WORDS]) -> Option<(u8, [u8; NONCE])> {
    let [m0, m1, m2, m3, code, _, _, _, word @ ..] = *bytes;
    ([m0, m1, m2, m3] == MAGIC).then_some((code, word))
}

/// Whether this side, without a key, trusts `peer`: it is of the same user.
pub(crate) fn is_same_user(peer: Peer) -> bool {
    peer.uid == rustix::process::geteuid().as_raw()
}

/// The socket inside of what the library wraps for all systems.
pub(crate) fn fd_of(stream: &Stream) -> BorrowedFd<'_> {
    let Stream::UdSocket(socket) = stream;
    socket.as_fd()
}

pub(crate) fn peer_of(stream: &Stream) -> io::Result<Peer> {
    let creds = stream.peer_creds()?;
    let missing = || io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell who connected");
    let pid = creds.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    Ok(Peer { pid, uid: creds.euid().ok_or_else(missing)?, gid: creds.egid().ok_or_else(missing)? })
}

/// One client on the listener's side.
#[derive(Debug)]
pub(crate) struct Handshake {
    stream: Stream,
    peer: Peer,
    patience: Deadline,
    /// What has come of the words that are awaited.
    heard: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Hello,
    Proof(Nonces),
}

/// How far a client has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It has to say more.
    Waiting,
    /// It left without a word: somebody only looked whether the listener lives.
    LeftSilently,
    /// It is connected.
    Connected(Box<Connection>, Peer),
}

impl Handshake {
    pub(crate) fn new(stream: Stream) -> io::Result<Handshake> {
        let peer = peer_of(&stream)?;
        let patience = Deadline::after(PATIENCE);
        Ok(Handshake { stream, peer, patience, heard: Vec::new(), stage: Stage::Hello })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        fd_of(&self.stream)
    }

    pub(crate) fn patience(&self) -> Deadline {
        self.patience
    }

    /// How long it has been at it.
    pub(crate) fn silence(&self) -> Duration {
        PATIENCE.saturating_sub(self.patience.left().unwrap_or(PATIENCE))
    }

    /// Goes on as far as what the client has said allows, without waiting for more.
    pub(crate) fn advance(&mut self, key: Option<&Key>) -> Result<Progress, AcceptError> {
        loop {
            let awaited = match self.stage {
                Stage::Hello => WORDS,
                Stage::Proof(_) => PROOF,
            };
            match self.listen(awaited)? {
                Heard::Everything => {}
                Heard::Part if self.patience.passed() => return Err(AcceptError::Silent(self.peer)),
                Heard::Part => return Ok(Progress::Waiting),
                Heard::End if matches!(self.stage, Stage::Hello) && self.heard.is_empty() => {
                    return Ok(Progress::LeftSilently);
                }
                Heard::End => return Err(AcceptError::Gone(self.peer)),
            }
            let heard = std::mem::take(&mut self.heard);
            match self.stage {
                Stage::Hello => {
                    mp_core::step!("pipe.accept", 2);
                    if let Some(nonces) = self.answer(&heard, key)? {
                        self.stage = Stage::Proof(nonces);
                        continue;
                    }
                }
                Stage::Proof(nonces) => self.check(&heard, key, &nonces)?,
            }
            return self.hand_over();
        }
    }

    /// Answers the hello; the numbers to be signed when a proof must follow.
    fn answer(&self, heard: &[u8], key: Option<&Key>) -> Result<Option<Nonces>, AcceptError> {
        let bytes = heard.try_into().map_err(|_| AcceptError::Malformed(self.peer))?;
        let hello = Hello::from_bytes(bytes).ok_or(AcceptError::Malformed(self.peer))?;
        let nonces = Nonces { client: hello.nonce, server: random().map_err(AcceptError::Io)? };
        let verdict = match (key, hello.keyed) {
            (Some(_), true) => Verdict::Prove,
            (Some(_), false) => Verdict::Refused(AuthenticationError::KeyNeeded),
            (None, true) => Verdict::Refused(AuthenticationError::NoKeyThere),
            (None, false) if is_same_user(self.peer) => Verdict::Welcome,
            (None, false) => Verdict::Refused(AuthenticationError::OtherUser),
        };
        self.say(Answer { verdict, word: nonces.server })?;
        mp_core::step!("pipe.accept", 3);
        Ok((verdict == Verdict::Prove).then_some(nonces))
    }

    /// Checks the client's proof, and gives our own.
    fn check(&self, heard: &[u8], key: Option<&Key>, nonces: &Nonces) -> Result<(), AcceptError> {
        let (Ok(proof), Some(key)) = (heard.try_into(), key) else {
            return Err(AcceptError::Malformed(self.peer));
        };
        if !key.verify(Role::Client, nonces, proof) {
            let refused = Verdict::Refused(AuthenticationError::WrongKey);
            return self.say(Answer { verdict: refused, word: [0; NONCE] });
        }
        mp_core::step!("pipe.accept", 4);
        self.say(Answer { verdict: Verdict::Welcome, word: key.proof(Role::Server, nonces) })
    }

    /// Makes the pipe and sends one end.
    fn hand_over(&self) -> Result<Progress, AcceptError> {
        mp_core::step!("pipe.accept", 5);
        let (ours, theirs) = pipe().map_err(AcceptError::Io)?;
        let mut scratch = Vec::new();
        let message =
            wire::encode(&theirs, &mut scratch).map_err(|e| AcceptError::Io(io::Error::other(e)))?;
        // A few hundred bytes into an empty socket: the deadline is for what cannot happen.
        let until = Until { deadline: Deadline::after(PATIENCE), gone: None };
        socket::send(self.fd(), message, &until).map_err(|error| match error {
            socket::TransferError::Closed | socket::TransferError::Gone => AcceptError::Gone(self.peer),
            socket::TransferError::TimedOut => AcceptError::Silent(self.peer),
            socket::TransferError::Io(error) => AcceptError::Io(error),
            other => AcceptError::Io(io::Error::other(other)),
        })?;
        mp_core::step!("pipe.accept", 6);
        Ok(Progress::Connected(Box::new(ours), self.peer))
    }

    /// Says `answer`; a refusal is the error that it tells the client of.
    fn say(&self, answer: Answer) -> Result<(), AcceptError> {
        let said = send_now(self.fd(), &answer.to_bytes());
        match answer.verdict {
            Verdict::Refused(error) => Err(AcceptError::Authentication(self.peer, error)),
            Verdict::Welcome | Verdict::Prove => said.map_err(|error| match error {
                Errno::PIPE | Errno::CONNRESET => AcceptError::Gone(self.peer),
                // The client has not read what little was said so far.
                Errno::AGAIN => AcceptError::Malformed(self.peer),
                other => AcceptError::Io(other.into()),
            }),
        }
    }

    /// Reads what is there of `awaited` bytes.
    fn listen(&mut self, awaited: usize) -> Result<Heard, AcceptError> {
        let mut bytes = [0; WORDS];
        while self.heard.len() < awaited {
            let room = awaited - self.heard.len();
            match rustix::net::recv(self.fd(), &mut bytes[..room], RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Heard::End),
                Ok((count, _)) => self.heard.extend_from_slice(&bytes[..count]),
                Err(Errno::AGAIN) => return Ok(Heard::Part),
                Err(Errno::INTR) => {}
                Err(error) => return Err(AcceptError::Io(error.into())),
            }
        }
        Ok(Heard::Everything)
    }
}

enum Heard {
    Everything,
    Part,
    End,
}

/// Sends a few bytes into a socket that has room for them.
pub(crate) fn send_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    loop {
        match rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) if count == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::AGAIN),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
