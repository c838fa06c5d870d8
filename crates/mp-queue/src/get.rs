//! Getting: the consumers' side of a [`Core`].

use crate::batch::{MOST, MOST_BYTES, Part};
use crate::claims::Claimed;
use crate::core::{Core, TURNS, lock_deadline};
use crate::error::GetError;
use crate::join::take_returned;
use crate::wait::{Side, Wait};
use mp_core::{Deadline, Encoding, Handle};
use mp_lock::raw::RawLockError;
use mp_pipe::packet::{self, Inbox};
use mp_pipe::ring::{Head, ReaderCache, Ring};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

/// A message as it was taken, not yet decoded.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) encoding: Encoding,
    pub(crate) handles: Vec<OwnedFd>,
    /// On a queue that can be joined.
    pub(crate) claimed: Option<Claimed>,
}

/// Where the bytes of a message go.
pub(crate) trait Sink {
    /// Copies those of the message that was just looked at, which is still in the ring afterwards, and shows them.
    fn copy(&mut self, ring: &Ring, cache: &ReaderCache, head: &Head) -> io::Result<&[u8]>;

    /// Where bytes that do not come from the ring are appended.
    fn beside(&mut self) -> &mut Vec<u8>;
}

/// Appended.
impl Sink for Vec<u8> {
    #[inline(always)]
    fn copy(&mut self, ring: &Ring, cache: &ReaderCache, head: &Head) -> io::Result<&[u8]> {
        let before = self.len();
        ring.copy_to(cache, head, self)?;
        Ok(&self[before..])
    }

    fn beside(&mut self) -> &mut Vec<u8> {
        self
    }
}

/// Into the front of a buffer; beside it what is too long for it.
#[derive(Debug)]
pub(crate) struct Front<'a> {
    buffer: &'a mut [u8],
    length: usize,
    beside: Vec<u8>,
}

impl<'a> Front<'a> {
    pub(crate) fn of(buffer: &'a mut [u8]) -> Front<'a> {
        Front { buffer, length: 0, beside: Vec::new() }
    }

    /// How many bytes the buffer has of the message that was taken, or the message where that is too long for it.
    #[inline(always)]
    pub(crate) fn finish(self) -> Result<usize, Vec<u8>> {
        if self.beside.is_empty() {
            return Ok(self.length);
        }
        let Some(out) = self.buffer.get_mut(..self.beside.len()) else { return Err(self.beside) };
        out.copy_from_slice(&self.beside);
        Ok(out.len())
    }
}

impl Sink for Front<'_> {
    #[inline(always)]
    fn copy(&mut self, ring: &Ring, cache: &ReaderCache, head: &Head) -> io::Result<&[u8]> {
        self.beside.clear();
        self.length = head.length;
        if let Some(out) = self.buffer.get_mut(..head.length) {
            ring.copy_into(cache, head, out)?;
            return Ok(out);
        }
        ring.copy_to(cache, head, &mut self.beside)?;
        Ok(&self.beside)
    }

    fn beside(&mut self) -> &mut Vec<u8> {
        &mut self.beside
    }
}

/// What a look under the get lock brought.
pub(crate) enum Look<R> {
    Taken(R),
    /// Nothing is inside: another consumer was faster.
    Empty,
    /// The lock was not to be had in time.
    TimedOut,
}

impl Core {
    /// The way of most gets: a message without handles that is known to be there, when nobody else is at it. Its bytes go to `bytes`;
    /// `None` when nothing was taken, for whatever reason: [`get`](Core::get) then does it, or says why not.
    #[inline(always)]
    pub(crate) fn get_plain(&self, bytes: &mut impl Sink) -> Option<Encoding> {
        if self.claims.is_some() || !self.may_have_something() {
            return None;
        }
        let taken = self.get_lock.try_with(
            || self.mend_get_side(),
            |cache| {
                mp_core::step!("queue.get", 1);
                let taken = self.take_plain(cache, bytes)?;
                mp_core::step!("queue.get", 2);
                Some(taken)
            },
        );
        let taken = taken.flatten()?;
        mp_core::step!("queue.get", 3);
        self.wake(self.ring.writer_asleep());
        Some(taken)
    }

    /// Under the get lock.
    #[inline(always)]
    fn take_plain(&self, cache: &mut ReaderCache, bytes: &mut impl Sink) -> Option<Encoding> {
        // Acquire: by now another thread may have seen them.
        cache.have_seen(self.seen.load(Acquire));
        let head = self.ring.look(cache)?;
        // After a message in a region of its own there is more to do.
        if !self.room_is_not_polled() || !cache.region_size().is_power_of_two() {
            return None;
        }
        bytes.copy(&self.ring, cache, &head).ok()?;
        self.ring.commit(cache, &head);
        Some(head.encoding)
    }

    /// Takes the next message, its bytes to `bytes`; `None` when the time is over. `watched` as in
    /// [`put`](Core::put), of the consumers' end.
    pub(crate) fn get(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        bytes: &mut impl Sink,
    ) -> Result<Option<Taken>, GetError> {
        let mut wait = Wait::default();
        let result =
            self.get_in_time(socket, watched, deadline, &mut wait, |cache| self.take(cache, socket, bytes));
        self.pass_on(&wait, self.ring.reader_asleep(), || self.has_something());
        result
    }

    /// Takes up to `most` messages, their bytes appended to `bytes`; false when the time is over before the first.
    pub(crate) fn get_batch(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        most: usize,
        bytes: &mut Vec<u8>,
        parts: &mut Vec<Part>,
    ) -> Result<bool, GetError> {
        let mut wait = Wait::default();
        let mut take = |cache: &mut ReaderCache| Ok(self.take_some(cache, socket, most, bytes, parts));
        let first = self.get_in_time(socket, watched, deadline, &mut wait, &mut take);
        let mut more = matches!(first, Ok(Some(true)));
        while more {
            // Others had their turn; what is still there is taken without a wait.
            let now = Deadline::after(Duration::ZERO);
            more = matches!(self.get_once(now, &mut take), Ok(Look::Taken(true)));
        }
        self.pass_on(&wait, self.ring.reader_asleep(), || self.has_something());
        first.map(|taken| taken.is_some())
    }

    #[inline(always)]
    fn get_in_time<R>(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        wait: &mut Wait,
        mut take: impl FnMut(&mut ReaderCache) -> Result<Look<R>, GetError>,
    ) -> Result<Option<R>, GetError> {
        let (mut last_look, mut turns) = (None, 0);
        loop {
            if self.may_have_something() {
                match self.get_once(deadline, &mut take)? {
                    Look::Taken(taken) => return Ok(Some(taken)),
                    Look::TimedOut => return Ok(None),
                    Look::Empty => {}
                }
            }
            // The news first, then one more look: what was put before is in the ring by then.
            if let Some(news) = last_look.take() {
                self.give_back(socket);
                return Err(news);
            }
            let departures = self.departures();
            last_look = self.end_of_queue(socket, watched);
            if last_look.is_some() {
                continue;
            }
            self.discard_strays(socket);
            if self.sweep_if_due() || !self.silence_values() {
                turns += 1;
                if turns < TURNS || !deadline.passed() {
                    continue;
                }
                // Others are faster each time. Nothing was missed by returning: whoever polls is told once more.
                self.missed_values();
            }
            if deadline.passed() {
                if self.keeps_memory() {
                    self.give_back(socket);
                }
                return Ok(None);
            }
            let ready = || self.has_something() || self.is_closed() || self.departures() != departures;
            let idle = wait.sleep(&self.ring, Side::Get, deadline, ready, ready);
            if idle {
                self.give_back(socket);
            }
        }
    }

    fn end_of_queue(&self, socket: &Handle, watched: bool) -> Option<GetError> {
        if self.is_closed() {
            return Some(GetError::Closed);
        }
        (watched && packet::hung_up(socket)).then_some(GetError::Disconnected)
    }

    #[inline(always)]
    fn get_once<R>(
        &self,
        deadline: Deadline,
        take: &mut impl FnMut(&mut ReaderCache) -> Result<Look<R>, GetError>,
    ) -> Result<Look<R>, GetError> {
        let mut held = match self.lock_get(lock_deadline(deadline)) {
            Ok(held) => held,
            Err(RawLockError::TimedOut) => {
                self.missed_values();
                return Ok(Look::TimedOut);
            }
            Err(error) => return Err(GetError::Io(error.into())),
        };
        mp_core::step!("queue.get", 1);
        let look = take(held.local());
        mp_core::step!("queue.get", 2);
        drop(held);
        mp_core::step!("queue.get", 3);
        if !matches!(look, Ok(Look::Empty)) {
            // Also when the message was lost: its place is free.
            self.wake(self.ring.writer_asleep());
            self.tell_joiners();
        }
        look
    }

    /// As many as may go under one lock, and no more than `most` in `parts`; true when others may follow.
    fn take_some(
        &self,
        cache: &mut ReaderCache,
        socket: &Handle,
        most: usize,
        bytes: &mut Vec<u8>,
        parts: &mut Vec<Part>,
    ) -> Look<bool> {
        let (parts_before, bytes_before) = (parts.len(), bytes.len());
        loop {
            let full = parts.len() >= most;
            if full || parts.len() - parts_before >= MOST || bytes.len() - bytes_before >= MOST_BYTES {
                return Look::Taken(!full);
            }
            let before = bytes.len();
            match self.take(cache, socket, bytes) {
                Ok(Look::Taken(taken)) => parts.push(Part::Taken { taken, length: bytes.len() - before }),
                Ok(Look::Empty | Look::TimedOut) if parts.len() == parts_before => return Look::Empty,
                Ok(Look::Empty | Look::TimedOut) => return Look::Taken(false),
                Err(error) => {
                    bytes.truncate(before);
                    parts.push(Part::Failed(error));
                    return Look::Taken(false);
                }
            }
            mp_core::step!("queue.batch", 2);
        }
    }

    #[inline(always)]
    fn take(
        &self,
        cache: &mut ReaderCache,
        socket: &Handle,
        bytes: &mut impl Sink,
    ) -> Result<Look<Taken>, GetError> {
        if let Some(claims) = &self.claims
            && let Some(again) = take_returned(claims, bytes.beside())?
        {
            return Ok(Look::Taken(again));
        }
        // Acquire: by now another thread may have seen them.
        cache.have_seen(self.seen.load(Acquire));
        let head = match self.ring.look(cache) {
            Some(head) => head,
            None => match self.ring.peek(cache).map_err(GetError::Io)? {
                Some(head) => head,
                None => return Ok(Look::Empty),
            },
        };
        let copied = bytes.copy(&self.ring, cache, &head).map_err(GetError::Io)?;
        let claimed = self.claim_before_take(&head, copied)?;
        self.announce_room();
        self.ring.commit(cache, &head);
        let handles = self.receive_handles(&head, socket).inspect_err(|_| self.lose(claimed));
        if !cache.region_size().is_power_of_two() {
            self.leave_used_region(cache, head.length);
        }
        Ok(Look::Taken(Taken { encoding: head.encoding, handles: handles?, claimed }))
    }

    /// The handles of the message that was just taken.
    #[inline(always)]
    fn receive_handles(&self, head: &Head, socket: &Handle) -> Result<Vec<OwnedFd>, GetError> {
        if head.handles == 0 {
            return Ok(Vec::new());
        }
        self.carried.store(true, Relaxed);
        Inbox::default().take(socket, head.sequence, head.handles.into()).map_err(|error| {
            self.strays().store(1, Relaxed);
            match error.kind() {
                io::ErrorKind::NotFound => GetError::HandlesLost,
                io::ErrorKind::QuotaExceeded => GetError::TooManyHandles,
                _ => GetError::Io(error),
            }
        })
    }
}
