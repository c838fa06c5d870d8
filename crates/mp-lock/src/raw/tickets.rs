//! Who waits for a condition: each waiter holds a ticket, notifiers mark tickets, each waiter looks at its own.
//!
//! | ticket | becomes |
//! | --- | --- |
//! | free (owner 0, state none) | claimed, by an exchange of the owner |
//! | claimed | waiting, by its owner's store of a fresh number |
//! | waiting | asleep, by its owner; marked, by a notifier's exchange; none, by its owner who is out of time |
//! | asleep | marked, by a notifier's exchange, who then rings the ticket's bell; none, by its owner who is out of time |
//! | marked | none, by its owner who returns |
//! | none, claimed | free, by its owner |
//! | any, its owner dead | claimed by a sweeper (exchange of the owner), who passes a mark on and frees it |
//!
//! Invariants:
//! 1. Numbers are never used twice, so an exchange on a ticket means that very waiter.
//! 2. A mark is passed on by marking another before the dead one's is taken away: a death in between wakes one too many,
//!    never one too few.
//! 3. Nobody waits for a waiter. No sleep is longer than a slice, and each slice a waiter passes on the marks of the dead.
//! 4. Tickets from `used` on were never claimed, and nobody looks there. `used` grows before the ticket beyond it waits.
//! 5. Only the owner of a ticket sleeps on its bell, and a mark rings that bell alone: a notification wakes whom it concerns. Who is
//!    marked before he is asleep finds the mark; who is marked afterwards has a bell that has changed or will be rung. A bell that is
//!    rung late, for the one before, wakes somebody who looks and sleeps again.
//!
//! Memory orderings: marks are AcqRel, looked for with Acquire. `used` grows before its owner gives the lock back that a notifier
//! of his change has acquired; what the lock guards, the lock orders. A notifier without the lock may miss who is just enlisting, as
//! he may come a moment earlier. The bell is read before the ticket becomes asleep, and changes after that was seen.

use super::sync::{AtomicU32, AtomicU64, Watch, wake, will_write};
use super::table::Known;
use std::sync::atomic::Ordering;

const NONE: u64 = 0;
const WAITING: u64 = 1;
const MARKED: u64 = 2;
/// Both bits: waiting, too.
const ASLEEP: u64 = 3;
const STATE: u64 = 3;

fn waits(ticket: u64) -> bool {
    ticket & WAITING != 0
}

/// Whose ticket was marked.
#[must_use = "who sleeps is woken after it"]
pub(crate) enum Marked<'a> {
    Awake,
    /// His bell has changed.
    Asleep(&'a AtomicU32),
}

impl Marked<'_> {
    #[inline(always)]
    pub(crate) fn wake(self) {
        if let Marked::Asleep(bell) = self {
            mp_core::step!("condition.notify", 3);
            wake(bell, 1);
        }
    }
}

/// A view of a condition's words: at most `most` tickets, of which `owner`, `state` and `bell` give the three words each.
pub(crate) struct Tickets<'a, O, S, B> {
    /// The next number.
    pub(crate) number: &'a AtomicU64,
    pub(crate) used: &'a AtomicU32,
    pub(crate) most: usize,
    pub(crate) owner: O,
    pub(crate) state: S,
    pub(crate) bell: B,
}

impl<'a, O, S, B> Tickets<'a, O, S, B>
where
    O: Fn(usize) -> &'a AtomicU64,
    S: Fn(usize) -> &'a AtomicU64,
    B: Fn(usize) -> &'a AtomicU32,
{
    fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Acquire)).unwrap_or(usize::MAX).min(self.most)
    }

    fn exchange(&self, place: usize, from: u64, to: u64) -> bool {
        (self.state)(place).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Marks a ticket that was seen waiting, and says whom to wake; `None` when it has changed.
    fn mark(&self, place: usize, ticket: u64) -> Option<Marked<'a>> {
        mp_core::step!("condition.notify", 1);
        if !self.exchange(place, ticket, ticket & !STATE | MARKED) {
            return None;
        }
        if ticket & STATE != ASLEEP {
            return Some(Marked::Awake);
        }
        mp_core::step!("condition.notify", 2);
        let bell = (self.bell)(place);
        bell.fetch_add(1, Ordering::Release);
        Some(Marked::Asleep(bell))
    }

    /// Marks the ticket that waits longest, and says whom to wake; `None` when none waits.
    fn mark_oldest(&self) -> Option<Marked<'a>> {
        loop {
            let waiting = |place: usize| {
                let ticket = (self.state)(place).load(Ordering::Acquire);
                waits(ticket).then_some((ticket >> 2, ticket, place))
            };
            let (_, ticket, place) = (0..self.used()).filter_map(waiting).min()?;
            if let Some(marked) = self.mark(place, ticket) {
                return Some(marked);
            }
        }
    }

    /// Marks all that wait.
    fn mark_all(&self) {
        for place in 0..self.used() {
            let mut ticket = (self.state)(place).load(Ordering::Acquire);
            let number = ticket >> 2;
            // Who falls asleep this very moment still waits.
            while waits(ticket) && ticket >> 2 == number {
                if let Some(marked) = self.mark(place, ticket) {
                    marked.wake();
                    break;
                }
                ticket = (self.state)(place).load(Ordering::Acquire);
            }
        }
    }

    /// Wakes `count` who wait, the longest first.
    pub(crate) fn notify(&self, count: usize) {
        if count == usize::MAX {
            will_write(self.used);
            self.mark_all();
        } else {
            (0..count).map_while(|_| self.notify_one()).for_each(Marked::wake);
        }
        mp_core::step!("condition.notify", 4);
    }

    /// Notifies who waits longest; `None` when nobody waits.
    pub(crate) fn notify_one(&self) -> Option<Marked<'a>> {
        will_write(self.used);
        self.mark_oldest()
    }

    /// Takes a ticket that waits; `None` when all are taken.
    pub(crate) fn enlist(&self, me: u64) -> Option<usize> {
        let free = |place: &usize| {
            let owner = (self.owner)(*place);
            owner.load(Ordering::Relaxed) == 0
                && owner.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let place = (0..self.most).find(free)?;
        mp_core::step!("condition.wait", 1);
        let beyond = u32::try_from(place + 1).unwrap_or(u32::MAX);
        if self.used.load(Ordering::Relaxed) < beyond {
            self.used.fetch_max(beyond, Ordering::AcqRel);
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        (self.state)(place).store(number << 2 | WAITING, Ordering::Release);
        mp_core::step!("condition.wait", 2);
        Some(place)
    }

    /// Gives a ticket back.
    pub(crate) fn free(&self, place: usize) {
        (self.state)(place).store(NONE, Ordering::Release);
        (self.owner)(place).store(0, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_marked(&self, place: usize) -> bool {
        (self.state)(place).load(Ordering::Acquire) & STATE == MARKED
    }

    /// How the wait for a mark ended, whether by one or because the time is over; or what the ticket's bell has to be for the caller to
    /// sleep on it before he asks again.
    pub(crate) fn ended(
        &self,
        place: usize,
        me: u64,
        watch: &mut Watch<'_>,
        alive: impl Fn(u64) -> bool,
    ) -> Result<bool, u32> {
        loop {
            let rung = (self.bell)(place).load(Ordering::Acquire);
            let ticket = (self.state)(place).load(Ordering::Acquire);
            if ticket & STATE == MARKED {
                return Ok(true);
            }
            if watch.over() {
                // Unless it was marked this very moment.
                return Ok(!self.exchange(place, ticket, NONE));
            }
            if watch.look_due() && self.sweep(me, &alive) {
                continue;
            }
            if ticket & STATE == ASLEEP || self.exchange(place, ticket, ticket | ASLEEP) {
                return Err(rung);
            }
        }
    }

    /// Frees the tickets of the dead, passing on their marks; whether there were any.
    pub(crate) fn sweep(&self, me: u64, alive: impl Fn(u64) -> bool) -> bool {
        let mut known = Known::default();
        let mut found = false;
        for place in 0..self.used().max(self.claimed_beyond()) {
            let owner = (self.owner)(place).load(Ordering::Acquire);
            if owner == 0 || owner == me || known.lives(owner, &alive) {
                continue;
            }
            let claim = (self.owner)(place).compare_exchange(owner, me, Ordering::AcqRel, Ordering::Relaxed);
            if claim.is_ok() {
                found = true;
                self.bury(place);
            }
        }
        found
    }

    /// One may have died between claiming a ticket and counting it as used.
    fn claimed_beyond(&self) -> usize {
        let used = self.used();
        (used..self.most).take_while(|place| (self.owner)(*place).load(Ordering::Relaxed) != 0).count() + used
    }

    /// Frees a ticket that was a dead one's and is ours now.
    fn bury(&self, place: usize) {
        let ticket = (self.state)(place).load(Ordering::Acquire);
        // Out of the running first, so that no notifier marks it any more; unless one just did.
        let marked = match ticket & STATE {
            WAITING | ASLEEP => !self.exchange(place, ticket, NONE),
            state => state == MARKED,
        };
        if marked {
            mp_core::step!("condition.sweep", 1);
            if let Some(next) = self.mark_oldest() {
                next.wake();
            }
            mp_core::step!("condition.sweep", 2);
        }
        self.free(place);
    }

    /// How many tickets are taken.
    pub(crate) fn taken(&self) -> usize {
        (0..self.used()).filter(|place| (self.owner)(*place).load(Ordering::Relaxed) != 0).count()
    }
}
