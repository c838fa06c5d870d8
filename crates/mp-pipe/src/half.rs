//! One direction of a connection, as its one user sees it.

use crate::error::{RecvError, SendError};
use crate::link::{Link, Unusable};
use crate::ring::{Found, Growth, Head, ReaderCache, Record, Ring, WriteError, WriterCache};
use mp_core::deadline::Deadline;
use mp_core::handle::Handles;
use mp_core::news;
use mp_core::park::{self, Spin};
use mp_core::wire::{self, Message};
use mp_core::{DecodeError, EncodeError, Encoding};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A sender asks the kernel whether the peer still lives when the last answer is older than so many ticks: some tens of
/// microseconds, so that a burst of messages pays once and a single one is always told the truth.
const FRESH: u64 = 1 << 17;

/// Reading the clock costs as much as a short message. Who sent the last few within so many ticks spares it for the next few, unless
/// this process has learnt of a death meanwhile: at worst that many more are sent to a peer that was killed in the middle of a burst,
/// outside of a receive, and of whose death nobody here knows. One that sleeps in a receive has to be woken, which tells at once.
const BURST: u64 = 1 << 13;
const SPARED: u8 = 3;

/// For so long whoever waits sleeps on a word in memory first, where a wake costs least; but nobody learns there that the other end has died.
/// Longer than the time between two ticks of a kernel's clock (1 to 10 ms): a shorter sleep sets the core's timer and resets it, which in a virtual
/// machine costs more than the sleep.
const DOZE: Duration = Duration::from_millis(12);

/// Buffers larger than this are not kept for the next message.
const KEPT: usize = 1 << 20;

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
        let gone = match std::mem::replace(waited, true) {
            false => doze_and_sleep_while(ring, words, link, deadline, still),
            true => sleep_while(ring, words, link, deadline, still),
        }
        .map_err(Refused::Io)?;
        if gone || ring.reader_left() { Err(Refused::Disconnected) } else { Ok(()) }
    }
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) ring: Ring,
    cache: ReaderCache,
    scratch: Vec<u8>,
    spin: Spin,
}

impl Reader {
    pub(crate) fn new(ring: Ring) -> Reader {
        ring.join();
        Reader { ring, cache: ReaderCache::default(), scratch: Vec::new(), spin: Spin::default() }
    }

    /// Whether this process is the one that may receive.
    pub(crate) fn is_ours(&self, link: &Link) -> bool {
        link.check(self.ring.reader_lease()).is_ok()
    }

    /// Whether nothing more comes.
    pub(crate) fn is_over(&self, link: &Link) -> bool {
        self.ring.writer_left() || link.hung_up()
    }

    /// Nothing more will be taken here, while the other direction lives on.
    pub(crate) fn leave(&self, link: &Link) {
        self.ring.leave_reading();
        wake(&self.ring, self.ring.writer_asleep(), link);
    }

    /// Whether a message is there now.
    pub(crate) fn has_message(&self) -> bool {
        !self.ring.is_empty()
    }

    /// The way of most messages: see [`Ring::look`].
    #[inline(always)]
    pub(crate) fn look(&mut self, link: &Link) -> Option<Head> {
        link.check(self.ring.reader_lease()).ok()?;
        self.ring.look(&mut self.cache)
    }

    /// Takes what [`look`](Reader::look) showed into `out`, which is as long. False when nothing was taken.
    #[inline(always)]
    pub(crate) fn take_plain_into(&mut self, link: &Link, head: &Head, out: &mut [u8]) -> bool {
        if self.ring.copy_into(&self.cache, head, out).is_err() {
            return false;
        }
        self.commit_plain(link, head);
        true
    }

    /// The way of most messages: one without handles that is there, of the encoding that is asked for. `None` when nothing was taken: the
    /// long way then does it, or says why not.
    #[inline(always)]
    fn recv_plain<T: DeserializeOwned + 'static>(&mut self, link: &Link) -> Option<Result<T, DecodeError>> {
        let head = self.look(link)?;
        if head.encoding != Encoding::of::<T>() || head.length > KEPT {
            return None;
        }
        if head.encoding != Encoding::POSTCARD {
            let mut bytes = Vec::with_capacity(head.length);
            self.ring.copy_to(&self.cache, &head, &mut bytes).ok()?;
            self.commit_plain(link, &head);
            return Some(wire::decode(head.encoding, Cow::Owned(bytes), Vec::new()));
        }
        self.scratch.clear();
        self.ring.copy_to(&self.cache, &head, &mut self.scratch).ok()?;
        self.commit_plain(link, &head);
        Some(wire::decode(head.encoding, Cow::Borrowed(&self.scratch), Vec::new()))
    }

    /// Waits for the next message; `None` when the time is over.
    #[inline]
    pub(crate) fn wait(&mut self, link: &Link, deadline: Deadline) -> Result<Option<Head>, RecvError> {
        match self.look(link) {
            Some(head) => Ok(Some(head)),
            None => self.wait_slowly(link, deadline),
        }
    }

    fn wait_slowly(&mut self, link: &Link, deadline: Deadline) -> Result<Option<Head>, RecvError> {
        link.check(self.ring.reader_lease()).map_err(unusable)?;
        if let Some(head) = self.ring.peek(&mut self.cache).map_err(RecvError::Io)? {
            return Ok(Some(head));
        }
        self.wait_long(link, deadline)
    }

    #[cold]
    fn wait_long(&mut self, link: &Link, deadline: Deadline) -> Result<Option<Head>, RecvError> {
        let ring = &self.ring;
        if deadline.passed() {
            // Gone first, then the last look: what was sent before the hang-up is in the ring by then.
            let gone = ring.writer_left() || link.hung_up();
            return match ring.peek(&mut self.cache).map_err(RecvError::Io)? {
                None if gone => Err(RecvError::Disconnected),
                found => Ok(found),
            };
        }
        let (mut gone, mut waited) = (false, false);
        ring.announce_core(ring.reader_core());
        // Once a wait: who then sleeps for long does not burn a spin at the end of each slice.
        self.spin.until(peer_core(ring.writer_core()), || !ring.is_empty());
        loop {
            if let Some(head) = ring.peek(&mut self.cache).map_err(RecvError::Io)? {
                return Ok(Some(head));
            }
            if gone {
                return Err(RecvError::Disconnected);
            }
            if waited {
                // Not before: memory of a large message that the next one gets is worth several copies of it.
                ring.release_left_regions(&mut self.cache).map_err(RecvError::Io)?;
            }
            if deadline.passed() {
                return Ok(None);
            }
            ring.give_all_space(&mut self.cache);
            wake(ring, ring.writer_asleep(), link);
            let still = || ring.is_empty() && !ring.writer_left();
            let words = [ring.reader_asleep(), ring.writer_core()];
            gone = match waited {
                false => doze_and_sleep_while(ring, words, link, deadline, still),
                true => sleep_while(ring, words, link, deadline, still),
            }
            .map_err(RecvError::Io)?;
            waited = true;
            // Before the next look: what was sent before it left is in the ring by then.
            gone |= ring.writer_left();
        }
    }

    /// Receives the next message; `None` when the time is over.
    #[inline]
    pub(crate) fn recv<T: DeserializeOwned + 'static>(
        &mut self,
        link: &Link,
        deadline: Deadline,
    ) -> Result<Option<T>, RecvError> {
        if let Some(got) = self.recv_plain(link) {
            return got.map(Some).map_err(RecvError::Decode);
        }
        match self.wait(link, deadline)? {
            Some(head) => self.take(link, &head).map(Some),
            None => Ok(None),
        }
    }

    /// Receives the next message into `buffer`, or back whole when that is too small.
    pub(crate) fn recv_into(
        &mut self,
        link: &Link,
        buffer: &mut [u8],
    ) -> Result<Result<usize, Vec<u8>>, RecvError> {
        match self.wait(link, Deadline::NEVER)? {
            Some(head) => self.take_bytes_into(link, &head, buffer),
            None => Err(RecvError::Disconnected),
        }
    }

    /// Whether a receive would not block, now or before the time is over.
    pub(crate) fn poll(&mut self, link: &Link, deadline: Deadline) -> Result<bool, RecvError> {
        match self.wait(link, deadline) {
            Ok(found) => Ok(found.is_some()),
            Err(RecvError::Disconnected) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes the message that [`wait`](Reader::wait) showed.
    #[inline]
    fn take<T: DeserializeOwned + 'static>(&mut self, link: &Link, head: &Head) -> Result<T, RecvError> {
        // Bytes that are the value itself are copied once, into the value.
        if head.encoding != Encoding::POSTCARD {
            let bytes = self.take_bytes(link, head)?;
            return wire::decode(head.encoding, Cow::Owned(bytes), Vec::new()).map_err(RecvError::Decode);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        self.ring.copy_to(&self.cache, head, &mut scratch).map_err(RecvError::Io)?;
        let handles = self.commit(link, head)?;
        let value = wire::decode(head.encoding, Cow::Borrowed(&scratch), handles).map_err(RecvError::Decode);
        if scratch.capacity() <= KEPT {
            self.scratch = scratch;
        }
        value
    }

    /// As [`take`](Reader::take), without decoding; handles are closed.
    #[inline]
    fn take_bytes(&mut self, link: &Link, head: &Head) -> Result<Vec<u8>, RecvError> {
        let mut bytes = Vec::new();
        self.ring.copy_to(&self.cache, head, &mut bytes).map_err(RecvError::Io)?;
        self.commit(link, head)?;
        Ok(bytes)
    }

    /// As [`take_bytes`](Reader::take_bytes), into the front of `buffer`; the whole message when it is too small.
    fn take_bytes_into(
        &mut self,
        link: &Link,
        head: &Head,
        buffer: &mut [u8],
    ) -> Result<Result<usize, Vec<u8>>, RecvError> {
        let Some(out) = buffer.get_mut(..head.length) else { return self.take_bytes(link, head).map(Err) };
        self.ring.copy_into(&self.cache, head, out).map_err(RecvError::Io)?;
        self.commit(link, head)?;
        Ok(Ok(head.length))
    }

    #[inline(always)]
    fn commit_plain(&mut self, link: &Link, head: &Head) {
        self.ring.commit(&mut self.cache, head);
        self.ring.barrier_before_look();
        if self.ring.writer_asleep().load(Relaxed) != 0 {
            self.wake_writer(link);
        }
    }

    /// The message is taken from here on; its handles follow.
    #[inline]
    fn commit(&mut self, link: &Link, head: &Head) -> Result<Vec<OwnedFd>, RecvError> {
        self.commit_plain(link, head);
        if head.handles == 0 { Ok(Vec::new()) } else { take_handles(link, head) }
    }

    /// A writer sleeps for space: it is woken when the ring is empty, or a good part of it is free, not for each message.
    #[cold]
    fn wake_writer(&mut self, link: &Link) {
        let free = self.ring.free_bytes(&self.cache);
        if self.ring.is_empty() || free >= self.cache.region_size() / 4 {
            self.ring.give_all_space(&mut self.cache);
            wake(&self.ring, self.ring.writer_asleep(), link);
        }
    }

    /// Prepares for being polled from outside: false when a message is there already; else the next one will ring.
    pub(crate) fn arm(&mut self, link: &Link) -> io::Result<bool> {
        link.drain()?;
        self.ring.give_all_space(&mut self.cache);
        wake(&self.ring, self.ring.writer_asleep(), link);
        self.ring.reader_asleep().store(1, Relaxed);
        park::heavy_barrier();
        Ok(self.ring.is_empty() && !self.ring.writer_left())
    }
}

/// The handles of the message that was just taken.
#[cold]
fn take_handles(link: &Link, head: &Head) -> Result<Vec<OwnedFd>, RecvError> {
    link.take_handles(head.sequence, head.handles).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RecvError::HandlesLost,
        io::ErrorKind::QuotaExceeded => RecvError::TooManyHandles,
        _ => RecvError::Io(error),
    })
}

/// Dozes for a moment, then sleeps at most a slice, while there is `reason` to; true when the other end is gone. That is announced in `asleep`, to who
/// was last seen on core `peer`.
fn doze_and_sleep_while(
    ring: &Ring,
    words: [&AtomicU32; 2],
    link: &Link,
    deadline: Deadline,
    reason: impl Fn() -> bool,
) -> io::Result<bool> {
    if link.may_doze() {
        let [asleep, peer] = words;
        ring.doze(asleep, peer, deadline.slice(DOZE), &reason);
        if !reason() {
            return Ok(false);
        }
    }
    sleep_while(ring, words, link, deadline, reason)
}

/// As [`doze_and_sleep_while`] without the doze: where bells are heard, from the first moment.
fn sleep_while(
    ring: &Ring,
    [asleep, peer]: [&AtomicU32; 2],
    link: &Link,
    deadline: Deadline,
    reason: impl Fn() -> bool,
) -> io::Result<bool> {
    let mut drained = Ok(());
    // Rung for nothing: left in the socket, such bells would take the room of handles.
    if ring.may_sleep(asleep, peer, reason, || drained = link.drain()) {
        let gone = link.sleep(deadline);
        asleep.store(0, Relaxed);
        return gone;
    }
    drained.map(|()| false)
}

/// Wakes the other side if it sleeps, after something was published for it; false when it is gone.
#[inline]
fn wake(ring: &Ring, asleep: &AtomicU32, link: &Link) -> bool {
    match ring.wake(asleep) {
        Found::Awake => true,
        Found::Asleep => link.ring(),
        Found::Nobody => !link.hung_up(),
    }
}

/// The core on which the peer was last seen.
fn peer_core(peer: &AtomicU32) -> u32 {
    peer.load(Relaxed).wrapping_sub(1)
}

fn unusable(unusable: Unusable) -> RecvError {
    match unusable {
        Unusable::Moved => RecvError::Moved,
        Unusable::InUse => RecvError::InUse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{self, Inbox};
    use crate::ring::{Direction, Table};
    use std::sync::atomic::Ordering::AcqRel;

    const FORMAT: mp_shm::Format = mp_shm::Format::plain(*b"TEST", 1);

    /// A ring, an end of its link, and the socket at the other.
    fn side() -> (Ring, Link, OwnedFd) {
        let (left, right) = packet::pair().unwrap();
        let memory = mp_shm::Growable::create(FORMAT, Table::Short.fixed()).unwrap();
        let ring = Ring::new(memory, mp_shm::HEADER, Direction::There, Table::Short);
        (ring, Link::new(left, Inbox::default()), right)
    }

    #[test]
    fn who_is_woken_from_a_doze_is_rung_for_by_nobody() {
        let (ring, link, right) = side();
        let asleep = ring.reader_asleep();
        let sleeping = std::cell::Cell::new(true);
        let reason = || {
            // The other side publishes before this one is on the word, and finds nobody there.
            if sleeping.replace(false) {
                assert_eq!(ring.wake(asleep), Found::Nobody);
                return true;
            }
            false
        };
        let gone = doze_and_sleep_while(&ring, [asleep, ring.writer_core()], &link, Deadline::NEVER, reason)
            .unwrap();
        assert!(!gone && ring.wake(asleep) == Found::Awake);
        drop(link);
        assert!(packet::hung_up(&right));
    }

    #[test]
    fn who_died_in_a_doze_is_missed_when_he_is_to_be_woken() {
        let (ring, link, right) = side();
        // Where the dead left it.
        ring.reader_asleep().store(2, Relaxed);
        assert!(wake(&ring, ring.reader_asleep(), &link));
        ring.reader_asleep().store(2, Relaxed);
        drop(right);
        assert!(!wake(&ring, ring.reader_asleep(), &link));
    }

    #[test]
    fn a_missed_wake_costs_a_doze_and_a_death_in_it_is_learnt_of_behind_it() {
        let (ring, link, right) = side();
        drop(right);
        let words = [ring.reader_asleep(), ring.writer_core()];
        // Nobody wakes.
        assert!(doze_and_sleep_while(&ring, words, &link, Deadline::NEVER, || true).unwrap());
        assert_eq!(ring.reader_asleep().load(Relaxed), 0);
    }

    #[test]
    fn bells_for_one_who_did_not_sleep_take_no_room() {
        let (ring, link, right) = side();
        let asleep = ring.reader_asleep();
        for _ in 0..1000 {
            // The other side publishes and rings between the announcement and the last look.
            let reason = || {
                assert_eq!(asleep.swap(0, AcqRel), 1);
                assert!(packet::ring_bell(&right));
                false
            };
            assert!(
                !sleep_while(&ring, [asleep, ring.writer_core()], &link, Deadline::NEVER, reason).unwrap()
            );
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        packet::send_handles(&right, 1, &[std::os::fd::AsFd::as_fd(&null)]).unwrap();
    }
}
