//! Whole messages with handles over a Unix stream socket: the start of a process, the handshake of a named connection.
//!
//! A frame is a header, the handles in batches that the kernel takes, and the bytes. Both sides poll the socket together
//! with an optional descriptor that tells of the peer's death, so a peer that dies half-way is an error, never a hang.

use crate::deadline::{Deadline, LONG_SLICE};
use crate::park;
use crate::wire::{Encoding, Message};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most handles that the kernel takes with one call.
pub const BATCH: usize = 253;

const MAGIC: [u8; 4] = *b"MPF1";
const HEADER: usize = 24;
/// How much is allocated for bytes before they arrive: a torn header must not ask for memory without end.
const GROWTH: usize = 1 << 20;

/// How long a transfer may take, and what tells that the peer is gone.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a> {
    /// When to give up.
    pub deadline: Deadline,
    /// Readable once the peer is gone: its pidfd.
    pub gone: Option<BorrowedFd<'a>>,
}

/// Why a transfer failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// The other side closed the socket.
    Closed,
    /// The peer's death was seen before the transfer was complete.
    Gone,
    /// The time was over.
    TimedOut,
    /// What came is no frame of ours.
    Malformed,
    /// The kernel's budget for handles in flight, or this process's for open ones, is used up.
    TooManyHandles,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Closed => f.write_str("the other side closed the connection"),
            TransferError::Gone => f.write_str("the other process ended"),
            TransferError::TimedOut => f.write_str("timed out"),
            TransferError::Malformed => f.write_str("what came is not a message of this protocol"),
            TransferError::TooManyHandles => {
                f.write_str("too many handles in flight or open; receive some first, or raise RLIMIT_NOFILE")
            }
            TransferError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let TransferError::Io(error) = self { Some(error) } else { None }
    }
}

impl From<Errno> for TransferError {
    fn from(error: Errno) -> TransferError {
        match error {
            Errno::PIPE | Errno::CONNRESET => TransferError::Closed,
            Errno::TOOMANYREFS | Errno::MFILE | Errno::NFILE => TransferError::TooManyHandles,
            other => TransferError::Io(other.into()),
        }
    }
}

/// A frame as it came.
#[derive(Debug)]
pub struct Received {
    /// How the bytes are to be read.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The handles, in order.
    pub handles: Vec<OwnedFd>,
}

/// What stands before the bytes of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    encoding: Encoding,
    handles: u32,
    length: u64,
}

impl Header {
    /// The header of `message`.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Header {
        Header {
            encoding: message.encoding,
            handles: u32::try_from(message.handles.len()).unwrap_or(u32::MAX),
            length: message.bytes.len() as u64,
        }
    }

    fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = self.encoding.0;
        out[8..12].copy_from_slice(&self.handles.to_ne_bytes());
        out[16..24].copy_from_slice(&self.length.to_ne_bytes());
        out
    }

    fn from_bytes(bytes: [u8; HEADER]) -> Option<Header> {
        let [m0, m1, m2, m3, encoding, _, _, _, h0, h1, h2, h3, _, _, _, _, length @ ..] = bytes;
        ([m0, m1, m2, m3] == MAGIC).then(|| Header {
            encoding: Encoding(encoding),
            handles: u32::from_ne_bytes([h0, h1, h2, h3]),
            length: u64::from_ne_bytes(length),
        })
    }
}

/// Sends a whole message; its ends that move count as sent only when this succeeds.
///
/// # Errors
///
/// See [`TransferError`]. After a failure the stream is unusable: part of the frame may have gone.
pub fn send(socket: BorrowedFd<'_>, message: Message<'_>, until: &Until<'_>) -> Result<(), TransferError> {
    let fds: Vec<BorrowedFd<'_>> = message.handles.fds().collect();
    send_parts(socket, Header::of(&message), message.bytes, &fds, until)?;
    message.handles.sent();
    Ok(())
}

/// As [`send`], from parts that were kept.
///
/// # Errors
///
/// See [`TransferError`].
pub fn send_parts<F: AsFd>(
    socket: BorrowedFd<'_>,
    header: Header,
    bytes: &[u8],
    fds: &[F],
    until: &Until<'_>,
) -> Result<(), TransferError> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let (first, rest) = fds.split_at(fds.len().min(BATCH));
    if rest.is_empty() {
        // In one call, as most are.
        return send_all(socket, &header.to_bytes(), bytes, first, until);
    }
    send_all(socket, &header.to_bytes(), &[], first, until)?;
    for batch in rest.chunks(BATCH) {
        send_all(socket, b"+", &[], batch, until)?;
    }
    send_all(socket, bytes, &[], &[], until)
}

/// Receives a whole message.
///
/// # Errors
///
/// See [`TransferError`]; handles that had come are closed.
pub fn receive(socket: BorrowedFd<'_>, until: &Until<'_>) -> Result<Received, TransferError> {
    let mut handles = Vec::new();
    let mut header = [0; HEADER];
    receive_all(socket, &mut header, &mut handles, until)?;
    let header = Header::from_bytes(header).ok_or(TransferError::Malformed)?;
    let expected = header.handles as usize;
    while handles.len() < expected {
        let before = handles.len();
        receive_all(socket, &mut [0; 1], &mut handles, until)?;
        if handles.len() == before {
            return Err(TransferError::Malformed);
        }
    }
    if handles.len() > expected {
        return Err(TransferError::Malformed);
    }
    let length = usize::try_from(header.length).map_err(|_| TransferError::Malformed)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + GROWTH.max(start)), 0);
        receive_all(socket, &mut bytes[start..], &mut Vec::new(), until)?;
    }
    Ok(Received { encoding: header.encoding, bytes, handles })
}

fn send_all(
    socket: BorrowedFd<'_>,
    mut first: &[u8],
    mut second: &[u8],
    fds: &[BorrowedFd<'_>],
    until: &Until<'_>,
) -> Result<(), TransferError> {
    let mut fds = fds;
    while !first.is_empty() || !second.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let both = [IoSlice::new(first), IoSlice::new(second)];
        match sendmsg(socket, &both, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                let of_first = sent.min(first.len());
                first = &first[of_first..];
                second = &second[sent - of_first..];
                fds = &[]; // they went with the first byte
            }
            Err(Errno::AGAIN) => ready(socket, PollFlags::OUT, until)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive_all(
    socket: BorrowedFd<'_>,
    mut bytes: &mut [u8],
    handles: &mut Vec<OwnedFd>,
    until: &Until<'_>,
) -> Result<(), TransferError> {
    while !bytes.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
            Ok(message) => {
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = part {
                        handles.extend(fds);
                    }
                }
                if message.flags.contains(ReturnFlags::CTRUNC) {
                    return Err(TransferError::TooManyHandles);
                }
                if message.bytes == 0 {
                    return Err(TransferError::Closed);
                }
                bytes = &mut std::mem::take(&mut bytes)[message.bytes..];
            }
            Err(Errno::AGAIN) => ready(socket, PollFlags::IN, until)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until the socket is ready for `events`. What the peer wrote before it died is still read: its death counts only
/// when the socket has nothing more to offer.
fn ready(socket: BorrowedFd<'_>, events: PollFlags, until: &Until<'_>) -> Result<(), TransferError> {
    loop {
        let mut polled = vec![PollFd::from_borrowed_fd(socket, events)];
        polled.extend(until.gone.map(|gone| PollFd::from_borrowed_fd(gone, PollFlags::IN)));
        park::poll_once(&mut polled, Some(until.deadline.slice(LONG_SLICE))).map_err(TransferError::Io)?;
        if !polled[0].revents().is_empty() {
            return Ok(());
        }
        if polled.get(1).is_some_and(|gone| !gone.revents().is_empty()) {
            return Err(TransferError::Gone);
        }
        if until.deadline.passed() {
            return Err(TransferError::TimedOut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handle, wire};
    use std::borrow::Cow;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const SOON: Duration = Duration::from_secs(60);

    fn until() -> Until<'static> {
        Until { deadline: Deadline::after(SOON), gone: None }
    }

    #[test]
    fn a_large_message_with_many_handles_arrives_whole() {
        let (left, right) = UnixStream::pair().unwrap();
        let null = || Handle::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let value = (vec![7u64; 300_000], (0..300).map(|_| null()).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut scratch = Vec::new();
                let message = wire::encode(&value, &mut scratch).unwrap();
                send(left.as_fd(), message, &until()).unwrap();
            });
            let received = receive(right.as_fd(), &until()).unwrap();
            let back: (Vec<u64>, Vec<Handle>) =
                wire::decode(received.encoding, Cow::Owned(received.bytes), received.handles).unwrap();
            assert_eq!(back.0, value.0);
            assert_eq!(back.1.len(), 300);
        });
    }

    #[test]
    fn a_closed_peer_and_a_silent_one_are_told_apart() {
        let (left, right) = UnixStream::pair().unwrap();
        let silent = Until { deadline: Deadline::after(Duration::ZERO), gone: None };
        assert!(matches!(receive(right.as_fd(), &silent), Err(TransferError::TimedOut)));
        drop(left);
        assert!(matches!(receive(right.as_fd(), &until()), Err(TransferError::Closed)));
    }

    #[test]
    fn garbage_is_malformed() {
        use std::io::Write;
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&[7; 64]).unwrap();
        assert!(matches!(receive(right.as_fd(), &until()), Err(TransferError::Malformed)));
    }
}
