//! Putting: the producers' side of a [`Core`].

use crate::core::{Core, PutGuard, TURNS, lock_deadline};
use crate::error::PutError;
use crate::wait::{Side, Wait};
use mp_core::handle::{Handle, Handles};
use mp_core::wire::Message;
use mp_core::{Deadline, EncodeError, Encoding, park};
use mp_lock::raw::RawLockError;
use mp_pipe::packet;
use mp_pipe::ring::{Growth, PLAIN_MOST, Record, WriteError, WriterCache};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;

/// A producer asks the kernel whether a consumer still lives when the last answer is older than so many ticks, some tens of
/// microseconds. An end that was dropped, not killed, is asked about at once.
const FRESH: u64 = 1 << 17;

/// One value of a batch: where its bytes are among the batch's.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Range<usize>,
    pub(crate) handles: Handles,
    pub(crate) count: u16,
}

impl Encoded {
    fn record<'a>(&self, bytes: &'a [u8]) -> Record<'a> {
        Record { encoding: self.encoding, bytes: &bytes[self.bytes.clone()], handles: self.count }
    }
}

/// Why nothing was put; the value is put back around it by the caller.
#[derive(Debug)]
pub(crate) enum Refused {
    TimedOut,
    Closed,
    Disconnected,
    TooManyHandles,
    TooLong,
    Encode(EncodeError),
    Io(io::Error),
}

impl Refused {
    /// The error that gives `value` back; `Err` for a time-out, which callers name differently.
    pub(crate) fn with<T>(self, value: T) -> Result<PutError<T>, T> {
        Ok(match self {
            Refused::TimedOut => return Err(value),
            Refused::Closed => PutError::Closed(value),
            Refused::Disconnected => PutError::Disconnected(value),
            Refused::TooManyHandles => PutError::TooManyHandles(value),
            Refused::TooLong => PutError::TooLong(value),
            Refused::Encode(error) => PutError::Encode(value, error),
            Refused::Io(error) => PutError::Io(value, error),
        })
    }
}

impl Core {
    /// The way of most puts: a short message without handles, when nobody else is at it and there is room. False when nothing was put, for
    /// whatever reason: [`put`](Core::put) then does it, or says why not. What either has to tell goes through memory, a value behind
    /// a tag, and written and read in pieces of different sizes that waits until all stores before it are done.
    #[inline(always)]
    pub(crate) fn put_plain(&self, encoding: Encoding, bytes: &[u8], socket: &Handle, watched: bool) -> bool {
        if bytes.len() > PLAIN_MOST || (watched && self.consumers_gone(socket, self.departures())) {
            return false;
        }
        let written = self.put_lock.try_with(
            || self.mend_put_side(),
            |cache| {
                mp_core::step!("queue.put", 1);
                let written = !self.is_closed()
                    && self.values_are_not_polled()
                    && self.ring.write_plain(cache, self.bound, encoding, bytes);
                if written {
                    mp_core::step!("queue.put", 2);
                }
                written
            },
        );
        if written != Some(true) {
            return false;
        }
        mp_core::step!("queue.put", 3);
        self.wake(self.ring.reader_asleep());
        true
    }

    /// Puts an encoded message. `socket` is the producers' end of the lifelines; it is `watched` when the handle holds only
    /// that end, so that it can be seen cut.
    pub(crate) fn put(
        &self,
        message: Message<'_>,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        if !message.handles.is_empty() {
            self.carried.store(true, Relaxed);
        }
        let handles = u16::try_from(message.handles.len()).map_err(|_| Refused::TooManyHandles)?;
        let record = Record { encoding: message.encoding, bytes: message.bytes, handles };
        let mut wait = Wait::default();
        let result = self.put_in_time(socket, watched, deadline, &mut wait, || {
            self.put_once(record, &message.handles, socket, deadline)
        });
        if result.is_ok() {
            self.wake(self.ring.reader_asleep());
        }
        self.pass_on(&wait, self.ring.writer_asleep(), || self.has_room());
        if result.is_ok() {
            message.handles.sent();
        }
        result
    }

    /// Puts what was encoded, in order; what was put is gone from `encoded` afterwards.
    pub(crate) fn put_batch(
        &self,
        bytes: &[u8],
        encoded: &mut VecDeque<Encoded>,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        if encoded.is_empty() {
            return Ok(());
        }
        let mut wait = Wait::default();
        let result = self.put_in_time(socket, watched, deadline, &mut wait, || {
            self.put_some(bytes, encoded, socket, deadline)
        });
        self.pass_on(&wait, self.ring.writer_asleep(), || self.has_room());
        result
    }

    /// `once` says whether it is put; false when the queue is full.
    #[inline(always)]
    fn put_in_time(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        wait: &mut Wait,
        mut once: impl FnMut() -> Result<bool, Refused>,
    ) -> Result<(), Refused> {
        let mut turns = 0;
        loop {
            let departures = self.departures();
            if watched && self.consumers_gone(socket, departures) {
                return Err(Refused::Disconnected);
            }
            if once()? {
                return Ok(());
            }
            if !self.silence_room() {
                turns += 1;
                if turns < TURNS || !deadline.passed() {
                    continue;
                }
                self.missed_room();
            }
            if deadline.passed() {
                return Err(Refused::TimedOut);
            }
            let over = || self.is_closed() || self.departures() != departures;
            let worth_it = self.room_is_worth_a_look(&over);
            wait.sleep(&self.ring, Side::Put, deadline, worth_it, || self.has_room() || over());
        }
    }

    /// What a producer without room spins on. The count of what was taken changes with each message, and looking at it makes the
    /// consumer wait for this core at each of his takes: so it is looked at rarely, and one free place is not worth it yet; in between there is
    /// the word that a consumer stores for a good part of the ring.
    fn room_is_worth_a_look(&self, over: impl Fn() -> bool) -> impl FnMut() -> bool {
        let (space, much) = (self.ring.given_back(), (self.bound / 8).max(1));
        let mut looks = 0_u32;
        move || {
            looks = looks.wrapping_add(1);
            self.ring.given_back() != space
                || (looks.is_multiple_of(16)
                    && (self.bound.saturating_sub(self.ring.len()) >= much || over()))
        }
    }

    /// False when the queue is full.
    #[inline(always)]
    fn put_once(
        &self,
        record: Record<'_>,
        handles: &Handles,
        socket: &Handle,
        deadline: Deadline,
    ) -> Result<bool, Refused> {
        let mut held = self.lock_for_put(deadline)?;
        mp_core::step!("queue.put", 1);
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        self.announce_values();
        let written = self.write_if_room(held.local(), record, handles, socket);
        mp_core::step!("queue.put", 2);
        drop(held);
        mp_core::step!("queue.put", 3);
        written
    }

    /// As many as there is room for, under one lock. False when some are left.
    fn put_some(
        &self,
        bytes: &[u8],
        encoded: &mut VecDeque<Encoded>,
        socket: &Handle,
        deadline: Deadline,
    ) -> Result<bool, Refused> {
        // What moves with its message leaves this process only when the lock is given back.
        let mut sent = Vec::new();
        let mut held = self.lock_for_put(deadline)?;
        let written = if self.is_closed() {
            Err(Refused::Closed)
        } else {
            loop {
                let Some(next) = encoded.front() else { break Ok(true) };
                self.announce_values();
                match self.write_if_room(held.local(), next.record(bytes), &next.handles, socket) {
                    Ok(true) => sent.extend(encoded.pop_front()),
                    other => break other,
                }
                mp_core::step!("queue.batch", 1);
            }
        };
        drop(held);
        if !sent.is_empty() {
            self.carried.fetch_or(sent.iter().any(|one| !one.handles.is_empty()), Relaxed);
            self.wake(self.ring.reader_asleep());
            sent.into_iter().for_each(|one| one.handles.sent());
        }
        written
    }

    /// Under the put lock. False when the queue is full.
    #[inline(always)]
    fn write_if_room(
        &self,
        cache: &mut WriterCache,
        record: Record<'_>,
        handles: &Handles,
        socket: &Handle,
    ) -> Result<bool, Refused> {
        if handles.is_empty() && self.ring.write_plain(cache, self.bound, record.encoding, record.bytes) {
            return Ok(true);
        }
        self.write_if_room_at_all(cache, record, handles, socket)
    }

    fn write_if_room_at_all(
        &self,
        cache: &mut WriterCache,
        record: Record<'_>,
        handles: &Handles,
        socket: &Handle,
    ) -> Result<bool, Refused> {
        match self.write(cache, record, handles, socket) {
            Err(WriteError::Full) if !self.has_room() => return Ok(false),
            Err(WriteError::Full) => {}
            other => return other.map_err(refused).map(|()| true),
        }
        // Either a consumer has just made room, or it is not that kind of room that is lacking. While the lock is held
        // nobody else fills the queue, so a second try tells.
        match self.write(cache, record, handles, socket) {
            Err(WriteError::Full) => Err(Refused::Io(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the queue has more regions than its table counts",
            ))),
            other => other.map_err(refused).map(|()| true),
        }
    }

    fn write(
        &self,
        cache: &mut WriterCache,
        record: Record<'_>,
        handles: &Handles,
        socket: &Handle,
    ) -> Result<(), WriteError> {
        let send_handles = |number| {
            let fds: Vec<BorrowedFd<'_>> = handles.fds().collect();
            // Some may have gone before the failure.
            packet::send_handles(socket, number, &fds).inspect_err(|_| self.strays().store(1, Relaxed))
        };
        self.ring.write(cache, Growth::Always, self.bound, record, send_handles)
    }

    fn lock_for_put(&self, deadline: Deadline) -> Result<PutGuard<'_>, Refused> {
        match self.lock_put(lock_deadline(deadline)) {
            Ok(held) => Ok(held),
            Err(RawLockError::TimedOut) => {
                self.missed_room();
                Err(Refused::TimedOut)
            }
            Err(error) => Err(Refused::Io(error.into())),
        }
    }

    /// Whether the lifeline is cut; `departures` as counted before.
    #[inline(always)]
    fn consumers_gone(&self, socket: &Handle, departures: u32) -> bool {
        let now = park::ticks();
        let fresh = now.wrapping_sub(self.alive_at.load(Relaxed)) <= FRESH;
        if fresh && departures == self.departures_seen.load(Relaxed) {
            return false;
        }
        let gone = packet::hung_up(socket);
        if !gone {
            self.departures_seen.store(departures, Relaxed);
            self.alive_at.store(now, Relaxed);
        }
        gone
    }
}

fn refused(error: WriteError) -> Refused {
    match error {
        WriteError::Full => Refused::TimedOut,
        WriteError::TooLong => Refused::TooLong,
        WriteError::Io(error) => match error.kind() {
            io::ErrorKind::QuotaExceeded => Refused::TooManyHandles,
            io::ErrorKind::BrokenPipe => Refused::Disconnected,
            _ => Refused::Io(error),
        },
    }
}
