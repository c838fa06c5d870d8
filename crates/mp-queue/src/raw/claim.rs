//! One claim: who has got a message and has not yet said that it is done with it.
//!
//! A claim is one word, its *ticket*: the number of the message and how often it was handed out, so no two claims ever have the
//! same. Beside it stand its owner and a word on which a joiner sleeps.
//!
//! | state | ticket | becomes | by |
//! | --- | --- | --- | --- |
//! | free | 0 | claimed | a consumer under the get lock, before it commits the take |
//! | claimed | number, deliveries | settling | its owner, by one exchange |
//! | | | returned | its owner, or once that one is dead whoever sweeps, by one exchange |
//! | | | settling | whoever mends after a death, when the take was never committed |
//! | settling | … and `SETTLING` | free | who made it so, or once the owner is dead whoever sweeps |
//! | returned | … and `RETURNED` | claimed | a consumer under the get lock |
//! | | | settling | whoever holds the get lock, when it may not be handed out again: counted lost |
//!
//! Invariants:
//! 1. A claim of a living owner is changed by that owner alone, once its take is committed. The exchange names the whole ticket, so a claim that was settled
//!    meanwhile and made anew for another message is never taken for the old one.
//! 2. Owner, place and length are written before the ticket, and stay until it is free or claimed again.
//! 3. Free, claimed by somebody living, settling, returned: a message that was taken is in exactly one of these, so what is unfinished is
//!    seen by looking and counted nowhere.
//! 4. While it is settling the words are still this claim's: a joiner is woken before others may use them.
//!
//! | who dies | leaves | what the next one does |
//! | --- | --- | --- |
//! | a consumer before the ticket | a free claim | nothing |
//! | … after the ticket, before the take is committed | a claim to a message that is still in the queue | frees it, when it gets the lock |
//! | … after that | a claimed message | returns it |
//! | who settles, before the exchange | a claimed message | returns it: it is handed out although it was done |
//! | … after it | settling; joiners asleep | frees it; joiners look again within a slice |
//!
//! Memory orderings: the ticket is stored with Release and read with Acquire: who sees it sees its owner and its bytes. The exchanges
//! are Acquire and Release. Settle, then look whether somebody sleeps; announce the sleep, then look at the ticket: store before load on both
//! sides, with the barriers of the ring.

use crate::sync::{AtomicU32, AtomicU64};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub(crate) const FREE: u64 = 0;
const RETURNED: u64 = 1 << 63;
const SETTLING: u64 = 1 << 62;
const DELIVERIES: u64 = (1 << 14) - 1;
const NUMBER: u64 = (1 << 48) - 1;

/// The ticket of message `number`, handed out for the `deliveries`-th time.
pub(crate) const fn ticket(number: u64, deliveries: u32) -> u64 {
    ((deliveries as u64) & DELIVERIES) << 48 | (number.wrapping_add(1) & NUMBER)
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Claimed,
    Settling,
    Returned,
}

pub(crate) const fn state(ticket: u64) -> State {
    if ticket & NUMBER == FREE {
        State::Free
    } else if ticket & RETURNED != 0 {
        State::Returned
    } else if ticket & SETTLING != 0 {
        State::Settling
    } else {
        State::Claimed
    }
}

/// Whether the message of `ticket` is still to be done.
pub(crate) const fn is_unfinished(ticket: u64) -> bool {
    matches!(state(ticket), State::Claimed | State::Returned)
}

/// The words of one claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    pub(crate) ticket: &'a AtomicU64,
    pub(crate) owner: &'a AtomicU64,
    pub(crate) waited: &'a AtomicU32,
}

impl Words<'_> {
    /// Reads the ticket.
    pub(crate) fn ticket(&self) -> u64 {
        self.ticket.load(Acquire)
    }

    /// Claims for `owner`. Under the get lock, when it is free or returned.
    pub(crate) fn claim(&self, owner: u64, ticket: u64) {
        self.owner.store(owner, Relaxed);
        mp_core::step!("queue.claim", 1);
        self.ticket.store(ticket, Release);
        mp_core::step!("queue.claim", 2);
    }

    /// The message is done; false when the claim is not `owner`'s, or not this one, any more. `barrier` is the ring's.
    /// `wake` wakes those who sleep on `waited`; `release` gives back what belongs to the claim.
    pub(crate) fn settle(
        &self,
        owner: u64,
        ticket: u64,
        barrier: impl FnOnce(),
        wake: impl FnOnce(),
        release: impl FnOnce(),
    ) -> bool {
        // Who else could change it names another ticket, so the owner need not be read again.
        if self.owner.load(Relaxed) != owner || !self.swap(ticket, ticket | SETTLING) {
            return false;
        }
        mp_core::step!("queue.settle", 1);
        self.finish(barrier, wake, release);
        mp_core::step!("queue.settle", 3);
        true
    }

    /// The second half of settling; also by whoever sweeps after a death in the middle of it.
    pub(crate) fn finish(&self, barrier: impl FnOnce(), wake: impl FnOnce(), release: impl FnOnce()) {
        barrier();
        if self.waited.load(Relaxed) != 0 && self.waited.swap(0, AcqRel) != 0 {
            mp_core::step!("queue.settle", 2);
            wake();
        }
        release();
        self.ticket.store(FREE, Release);
    }

    /// The message is to be handed out again; false when the claim is not this one any more. By its owner, or once that one is dead by
    /// whoever sweeps.
    pub(crate) fn give_back(&self, ticket: u64) -> bool {
        self.swap(ticket, ticket | RETURNED)
    }

    /// Under the get lock: nobody is going to do it; or its take was never committed.
    pub(crate) fn bury(&self, ticket: u64) -> bool {
        self.swap(ticket, ticket & !RETURNED | SETTLING)
    }

    /// Before a joiner sleeps on `waited`: true when the claim is unfinished.
    pub(crate) fn announce_sleep(&self, barrier: impl FnOnce()) -> bool {
        self.waited.store(1, Relaxed);
        barrier();
        is_unfinished(self.ticket())
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.ticket.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_tell_messages_and_deliveries_apart() {
        assert_eq!(state(ticket(0, 1)), State::Claimed);
        assert_ne!(ticket(0, 1), ticket(1, 1));
        assert_ne!(ticket(0, 1), ticket(0, 2));
        assert_eq!(state(ticket(5, 1) | RETURNED), State::Returned);
        assert_eq!(state(ticket(5, 1) | SETTLING), State::Settling);
        assert_eq!(state(FREE), State::Free);
        assert_eq!(state(ticket(5, u32::MAX)), State::Claimed);
    }
}
