//! Getting: the consumers' side of a [`Core`].

use crate::claims::Claimed;
use crate::core::{Core, GET_LOCK, lock_deadline, with_cache};
use crate::error::GetError;
use crate::join::take_returned;
use crate::wait::Wait;
use mp_core::{Deadline, Encoding, Handle};
use mp_lock::raw::RawLockError;
use mp_pipe::packet::{self, Inbox};
use mp_pipe::ring::{Head, ReaderCache};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

/// A message as it was taken, not yet decoded.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) encoding: Encoding,
    pub(crate) handles: Vec<OwnedFd>,
    /// On a queue that can be joined.
    pub(crate) claimed: Option<Claimed>,
}

/// What a look under the get lock brought.
pub(crate) enum Look {
    Taken(Taken),
    /// Nothing is inside: another consumer was faster.
    Empty,
    /// The lock was not to be had in time.
    TimedOut,
}

impl Core {
    /// Takes the next message, its bytes appended to `bytes`; `None` when the time is over. `watched` as in
    /// [`put`](Core::put), of the consumers' end.
    pub(crate) fn get(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Taken>, GetError> {
        let mut wait = Wait::default();
        let result = self.get_in_time(socket, watched, deadline, bytes, &mut wait);
        self.pass_on(&wait, self.ring.reader_asleep(), || self.has_something());
        result
    }

    #[inline]
    fn get_in_time(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        bytes: &mut Vec<u8>,
        wait: &mut Wait,
    ) -> Result<Option<Taken>, GetError> {
        let mut last_look = None;
        loop {
            if self.has_something() {
                match self.get_once(socket, deadline, bytes)? {
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
                continue;
            }
            if deadline.passed() {
                return Ok(None);
            }
            let idle = wait.sleep(self.ring.reader_asleep(), deadline, || {
                self.has_something() || self.is_closed() || self.departures() != departures
            });
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

    #[inline]
    fn get_once(&self, socket: &Handle, deadline: Deadline, bytes: &mut Vec<u8>) -> Result<Look, GetError> {
        let held = match self.lock(GET_LOCK, lock_deadline(deadline)) {
            Ok(held) => held,
            Err(RawLockError::TimedOut) => {
                self.missed_values();
                return Ok(Look::TimedOut);
            }
            Err(error) => return Err(GetError::Io(error.into())),
        };
        mp_core::step!("queue.get", 1);
        let look = with_cache(&self.reader, |cache| self.take(cache, socket, bytes));
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

    #[inline]
    fn take(&self, cache: &mut ReaderCache, socket: &Handle, bytes: &mut Vec<u8>) -> Result<Look, GetError> {
        if let Some(claims) = &self.claims
            && let Some(again) = take_returned(claims, bytes)?
        {
            return Ok(Look::Taken(again));
        }
        let Some(head) = self.ring.peek(cache).map_err(GetError::Io)? else { return Ok(Look::Empty) };
        self.ring.copy_to(cache, &head, bytes).map_err(GetError::Io)?;
        let claimed = self.claim_before_take(&head, bytes)?;
        self.announce_room();
        self.ring.commit(cache, &head);
        let handles = self.receive_handles(&head, socket).inspect_err(|_| self.lose(claimed));
        // A region of its own is used up by its message: not kept until the next one.
        if !cache.region_size().is_power_of_two() {
            self.leave_large_region(cache);
        }
        Ok(Look::Taken(Taken { encoding: head.encoding, handles: handles?, claimed }))
    }

    /// The handles of the message that was just taken.
    #[inline]
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
