//! What a [`Core`] does more when its queue can be joined. The claims are in [`claims`](crate::claims).

use crate::claims::{Claimed, Claims};
use crate::core::{Core, lock_deadline};
use crate::error::GetError;
use crate::get::Taken;
use mp_core::deadline::{Deadline, SLICE};
use mp_core::park;
use mp_lock::raw::RawLockError;
use mp_pipe::ring::Head;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::time::Duration;

/// The oldest message that was given back, claimed anew.
pub(crate) fn take_returned(claims: &Claims, bytes: &mut Vec<u8>) -> Result<Option<Taken>, GetError> {
    let again = claims.take_returned(bytes).map_err(GetError::Io)?;
    Ok(again.map(|(claimed, encoding)| Taken { encoding, handles: Vec::new(), claimed: Some(claimed) }))
}

impl Core {
    /// Under the get lock, before the take of `head` is committed.
    #[inline]
    pub(crate) fn claim_before_take(&self, head: &Head, bytes: &[u8]) -> Result<Option<Claimed>, GetError> {
        let Some(claims) = &self.claims else { return Ok(None) };
        let claimed = claims.record(self.ring.taken(), head.encoding, head.handles > 0, bytes);
        claimed.map(Some).map_err(GetError::Io)
    }

    /// This process settles `claimed` in its turn.
    pub(crate) fn keep(&self, claimed: Claimed) {
        if let Some(claims) = &self.claims {
            claims.keep(claimed);
        }
    }

    /// The message is done; false when it is not this process's any more.
    pub(crate) fn settle(&self, claimed: Claimed) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.settle(claimed, || self.ring.barrier_before_look()))
    }

    /// Settles the oldest claim that this process keeps; false when there is none.
    pub(crate) fn settle_oldest(&self) -> bool {
        let kept = || self.claims.as_ref().and_then(Claims::oldest_kept);
        // A forked child has copies of its parent's claims, which it cannot settle.
        std::iter::from_fn(kept).any(|claimed| self.settle(claimed))
    }

    /// The message is to be handed out again; false when it is not this process's any more.
    pub(crate) fn give_claim_back(&self, claimed: Claimed) -> bool {
        self.return_claim(claimed, false)
    }

    /// Nobody is going to do the message, if there is a claim at all.
    pub(crate) fn lose(&self, claimed: Option<Claimed>) {
        if let Some(claimed) = claimed {
            self.return_claim(claimed, true);
        }
    }

    fn return_claim(&self, claimed: Claimed, lost: bool) -> bool {
        let Some(claims) = &self.claims else { return false };
        // Before and after: a poller may look, and silence the bell, in between.
        self.missed_by_pollers();
        let returned = claims.give_back(claimed, lost);
        self.missed_by_pollers();
        self.wake(self.ring.reader_asleep());
        // What may not be handed out again is counted lost, by the next one who gets when the lock is not free now. Called from
        // under the lock itself, it is not.
        if let Some(_get) = self.lock_get_if_free() {
            let _ = claims.sweep(&[]);
        }
        returned
    }

    /// Looks after dead consumers, if nobody has for a slice; true when something waits to be handed out again.
    #[inline]
    pub(crate) fn sweep_if_due(&self) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.sweep_is_due() && self.sweep(claims))
    }

    #[cold]
    fn sweep(&self, claims: &Claims) -> bool {
        let dead = claims.dead_owners();
        let Some(get) = self.lock_get_if_free() else { return false };
        // Damaged memory shows itself to whoever gets.
        let some = claims.sweep(&dead).unwrap_or(true);
        drop(get);
        if some {
            self.missed_by_pollers();
            self.wake(self.ring.reader_asleep());
        }
        some
    }

    /// After a take: a joiner sleeps until nothing is inside.
    #[inline]
    pub(crate) fn tell_joiners(&self) {
        if let Some(claims) = &self.claims
            && claims.joiners().load(Relaxed) != 0
            && self.ring.is_empty()
            && claims.joiners().swap(0, AcqRel) != 0
        {
            park::wake(claims.joiners(), u32::MAX);
        }
    }

    /// Waits until every message that was put is done or lost; false when the time is over.
    pub(crate) fn join(&self, deadline: Deadline) -> io::Result<bool> {
        let Some(claims) = &self.claims else { return Ok(true) };
        let mut hint = 0;
        loop {
            self.sweep_if_due();
            let get = match self.lock_get(lock_deadline(deadline)) {
                Ok(get) => get,
                Err(RawLockError::TimedOut) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let inside = !self.ring.is_empty();
            let slot = if inside { None } else { claims.unfinished_slot(hint)? };
            drop(get);
            if !inside && slot.is_none() {
                return Ok(true);
            }
            if deadline.passed() {
                return Ok(false);
            }
            let slice = deadline.slice(SLICE);
            mp_core::step!("queue.join", 1);
            match slot {
                Some(slot) => {
                    hint = slot;
                    claims.sleep_on(slot, slice)?;
                }
                None => self.sleep_until_empty(claims, slice),
            }
        }
    }

    fn sleep_until_empty(&self, claims: &Claims, slice: Duration) {
        claims.joiners().store(1, Relaxed);
        park::heavy_barrier();
        if !self.ring.is_empty() {
            park::sleep(claims.joiners(), 1, slice);
        }
    }
}
