//! The reading half.

use super::KEPT;
use super::sleep::{peer_core, sleep_while, wake};
use crate::error::RecvError;
use crate::link::{Link, Unusable};
use crate::ring::{Head, ReaderCache, Ring};
use mp_core::deadline::Deadline;
use mp_core::park::{self, Spin};
use mp_core::wire;
use mp_core::{DecodeError, Encoding};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

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
            gone = sleep_while(ring, words, link, deadline, &mut waited, still).map_err(RecvError::Io)?;
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

fn unusable(unusable: Unusable) -> RecvError {
    match unusable {
        Unusable::Moved => RecvError::Moved,
        Unusable::InUse => RecvError::InUse,
    }
}
