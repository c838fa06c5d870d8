//! The writing half.

use super::KEPT;
use super::sleep::{peer_core, sleep_while, wake};
use crate::error::SendError;
use crate::link::{Link, Unusable};
use crate::ring::{Growth, Record, Ring, WriteError, WriterCache};
use mp_core::deadline::Deadline;
use mp_core::handle::Handles;
use mp_core::news;
use mp_core::park::{self, Spin};
use mp_core::wire::{self, Message};
use mp_core::{EncodeError, Encoding};
use serde::Serialize;
use std::io;
use std::os::fd::BorrowedFd;

/// A sender asks the kernel whether the peer still lives when the last answer is older than so many ticks: some tens of
/// microseconds, so that a burst of messages pays once and a single one is always told the truth.
const FRESH: u64 = 1 << 17;

/// Reading the clock costs as much as a short message. Who sent the last few within so many ticks spares it for the next few, unless
/// this process has learnt of a death meanwhile: at worst that many more are sent to a peer that was killed in the middle of a burst,
/// outside of a receive, and of whose death nobody here knows. One that sleeps in a receive has to be woken, which tells at once.
const BURST: u64 = 1 << 13;
const SPARED: u8 = 3;

/// Why nothing was sent; the value is put back around it by the caller.
#[derive(Debug)]
pub(crate) enum Refused {
    TimedOut,
    Disconnected,
    Unusable(Unusable),
    TooManyHandles,
    TooLong,
    Encode(EncodeError),
    Io(io::Error),
}

impl From<Unusable> for Refused {
    fn from(unusable: Unusable) -> Refused {
        Refused::Unusable(unusable)
    }
}

impl Refused {
    /// The error that gives `value` back; `Err` for a time-out, which callers name differently.
    pub(crate) fn with<T>(self, value: T) -> Result<SendError<T>, T> {
        Ok(match self {
            Refused::TimedOut => return Err(value),
            Refused::Disconnected => SendError::Disconnected(value),
            Refused::Unusable(Unusable::Moved) => SendError::Moved(value),
            Refused::Unusable(Unusable::InUse) => SendError::InUse(value),
            Refused::TooManyHandles => SendError::TooManyHandles(value),
            Refused::TooLong => SendError::TooLong(value),
            Refused::Encode(error) => SendError::Encode(value, error),
            Refused::Io(error) => SendError::Io(value, error),
        })
    }
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) ring: Ring,
    cache: WriterCache,
    scratch: Vec<u8>,
    spin: Spin,
    /// When the peer was last known to live.
    alive_at: u64,
    /// When the clock was last read, and for how many messages it need not be.
    looked_at: u64,
    spared: u8,
    /// How many deaths this process had learnt of when the peer was last known to live.
    deaths: u64,
}

impl Writer {
    pub(crate) fn new(ring: Ring) -> Writer {
        ring.join();
        let cache = WriterCache::default();
        Writer {
            ring,
            cache,
            scratch: Vec::new(),
            spin: Spin::default(),
            alive_at: 0,
            looked_at: 0,
            spared: 0,
            deaths: 0,
        }
    }

    /// Nothing more will be sent here, while the other direction lives on.
    pub(crate) fn leave(&self, link: &Link) {
        self.ring.leave_writing();
        wake(&self.ring, self.ring.reader_asleep(), link);
    }

    /// Encodes `value` and sends it.
    #[inline]
    pub(crate) fn send<T: Serialize + 'static>(
        &mut self,
        link: &Link,
        value: &T,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = match wire::encode(value, &mut scratch) {
            Ok(message) => self.send_message(link, message, deadline),
            Err(error) => Err(Refused::Encode(error)),
        };
        if scratch.capacity() <= KEPT {
            self.scratch = scratch;
        }
        result
    }

    /// Sends `bytes` as they are; waits for room.
    #[inline(always)]
    pub(crate) fn send_bytes(&mut self, link: &Link, bytes: &[u8]) -> Result<(), Refused> {
        if self.send_plain(link, Encoding::BYTES, bytes) {
            return self.wake_reader(link);
        }
        let message = Message { encoding: Encoding::BYTES, bytes, handles: Handles::default() };
        self.send_message(link, message, Deadline::NEVER)
    }

    /// The way of most messages: see [`Ring::write_plain`]. False when nothing was sent.
    #[inline(always)]
    fn send_plain(&mut self, link: &Link, encoding: Encoding, bytes: &[u8]) -> bool {
        self.peer_is_fresh()
            && link.check(self.ring.writer_lease()).is_ok()
            && self.ring.write_plain(&mut self.cache, u64::MAX, encoding, bytes)
    }

    /// Whether the peer was lately known to live.
    #[inline(always)]
    fn peer_is_fresh(&mut self) -> bool {
        if news::so_far() != self.deaths {
            return false;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return true;
        }
        self.peer_is_fresh_by_the_clock()
    }

    #[inline]
    fn peer_is_fresh_by_the_clock(&mut self) -> bool {
        let now = park::ticks();
        if now.wrapping_sub(self.looked_at) <= BURST {
            self.spared = SPARED;
        }
        self.looked_at = now;
        let fresh = now.wrapping_sub(self.alive_at) <= FRESH;
        if !fresh {
            self.spared = 0;
        }
        fresh
    }

    /// After [`send_plain`](Writer::send_plain): as [`send_message`](Writer::send_message) ends.
    #[inline(always)]
    fn wake_reader(&mut self, link: &Link) -> Result<(), Refused> {
        // A peer that had gone before it could be woken never sees the message, unless it had taken it already.
        if wake(&self.ring, self.ring.reader_asleep(), link) || self.ring.is_empty() {
            Ok(())
        } else {
            self.trust_nothing();
            Err(Refused::Disconnected)
        }
    }

    /// Whoever was told that the peer is gone is told so by each send from then on.
    #[cold]
    fn trust_nothing(&mut self) {
        (self.spared, self.alive_at) = (0, park::ticks().wrapping_sub(FRESH + 1));
    }

    #[inline(always)]
    fn send_message(&mut self, link: &Link, message: Message<'_>, deadline: Deadline) -> Result<(), Refused> {
        if message.handles.is_empty() && self.send_plain(link, message.encoding, message.bytes) {
            return self.wake_reader(link);
        }
        let sent = self.send_message_slowly(link, message, deadline);
        if matches!(sent, Err(Refused::Disconnected)) {
            self.trust_nothing();
        }
        sent
    }

    fn send_message_slowly(
        &mut self,
        link: &Link,
        message: Message<'_>,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        link.check(self.ring.writer_lease())?;
        self.spared = 0;
        let (now, deaths) = (park::ticks(), news::so_far());
        if now.wrapping_sub(self.alive_at) > FRESH || deaths != self.deaths {
            if self.ring.reader_left() || link.hung_up() {
                return Err(Refused::Disconnected);
            }
            // The count from before the question: a death that is learnt of meanwhile asks it again.
            (self.alive_at, self.deaths) = (now, deaths);
            // A peer that waits for the answer must know whether spinning for it can pay.
            self.ring.announce_core(self.ring.writer_core());
        }
        if !self.write(link, &message)? {
            self.write_when_there_is_room(link, &message, deadline)?;
        }
        self.wake_reader(link)?;
        message.handles.sent();
        Ok(())
    }

    /// False when there is no room.
    #[inline]
    fn write(&mut self, link: &Link, message: &Message<'_>) -> Result<bool, Refused> {
        let handles = u16::try_from(message.handles.len()).map_err(|_| Refused::TooManyHandles)?;
        let record = Record { encoding: message.encoding, bytes: message.bytes, handles };
        let send_handles = |number| {
            let socket = link.socket().map_err(|_| io::ErrorKind::BrokenPipe)?;
            let fds: Vec<BorrowedFd<'_>> = message.handles.fds().collect();
            crate::packet::send_handles(&socket, number, &fds)
        };
        match self.ring.write(&mut self.cache, Growth::WhenEmpty, u64::MAX, record, send_handles) {
            Ok(()) => Ok(true),
            Err(WriteError::Full) => Ok(false),
            Err(WriteError::TooLong) => Err(Refused::TooLong),
            Err(WriteError::Io(error)) => Err(match error.kind() {
                io::ErrorKind::QuotaExceeded => Refused::TooManyHandles,
                io::ErrorKind::BrokenPipe => Refused::Disconnected,
                _ => Refused::Io(error),
            }),
        }
    }

    #[cold]
    fn write_when_there_is_room(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let mut waited = false;
        loop {
            // Looked at before the room is: what is taken or given back from here on ends the wait below. Once, so that a reader who
            // does nothing any more cannot end it again and again.
            let (taken, space) = (self.ring.taken(), self.ring.given_back());
            if self.write(link, message)? {
                return Ok(());
            }
            if deadline.passed() {
                return Err(Refused::TimedOut);
            }
            self.wait_for_space(link, [taken, space], deadline, &mut waited)?;
        }
    }

    /// Returns when the reader has taken more than `taken` messages or given back more than `space`, or after a slice.
    fn wait_for_space(
        &mut self,
        link: &Link,
        [taken, space]: [u64; 2],
        deadline: Deadline,
        waited: &mut bool,
    ) -> Result<(), Refused> {
        let ring = &self.ring;
        ring.announce_core(ring.writer_core());
        let reader_core = peer_core(ring.reader_core());
        // The word that the reader stores for a good part of the ring at once: looking at one that he stores for each message would
        // make each of his receives wait for this core.
        let mut looks = 0_u32;
        let much = || {
            looks = looks.wrapping_add(1);
            // He who has taken all stores no more before he sleeps.
            ring.given_back() != space
                || (looks.is_multiple_of(16) && ring.taken() != taken && ring.is_empty())
        };
        if self.spin.until(reader_core, much) {
            return Ok(());
        }
        let still = || ring.taken() == taken && !ring.reader_left();
        let words = [ring.writer_asleep(), ring.reader_core()];
        let gone = sleep_while(ring, words, link, deadline, waited, still).map_err(Refused::Io)?;
        if gone || ring.reader_left() { Err(Refused::Disconnected) } else { Ok(()) }
    }
}
