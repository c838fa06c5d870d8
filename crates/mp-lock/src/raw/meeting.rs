//! The parties of a barrier: who has arrived in which turn, and who has registered.
//!
//! Invariants:
//! 1. A turn ends by one exchange of its word, which also says how. Whoever waited in it reads that afterwards.
//! 2. An arrival counts while its number is the turn's: ending a turn empties the table. Arrivals take the first free
//!    place, excluding each other (the caller's mutex); the owner is stored before the number, which makes it count.
//! 3. The mutex guards nothing that a death can leave wrong, so there is no repair.
//! 4. Somebody living looks after everybody. Places and registrations are looked at in parts of 64, each by one waiter on behalf of all:
//!
//! | the part was last claimed | a waiter whose look is due |
//! | --- | --- |
//! | about a slice ago | claims it, by an exchange, and looks; at the next part if he loses |
//! | later | leaves it, and wakes when it is due again |
//!
//! Whoever claims a part and dies is one of those who have arrived: the news of his death breaks the turn as well as that of whoever
//! he did not look at, and the part that he lies in is looked at within a slice. One who claims a part and stands still delays it by one slice: then the next
//! one claims it. A claim that lies in the future counts as old, so that nothing written there keeps all from looking.
//!
//! Memory orderings: exchanges of the turn are AcqRel, waiters read it with Acquire: what a party wrote before it arrived,
//! all see who pass (arrivals are chained by the mutex and the turn).

use super::gate::Gate;
use super::sync::{AtomicU64, Watch};
use super::table::{Known, Table};
use super::turn::{Ended, Mode, Turn};
use std::sync::atomic::Ordering;

/// How many places one looks at on behalf of all at a time.
pub(crate) const PART: usize = 64;

/// How often each part is looked at, in milliseconds, and how much sooner it may be: the clock is coarse.
const PERIOD: u64 = 80;
const EARLY: u64 = 8;

/// A view of a barrier's words: `owner` and `number` give the two words of each arrival, `registration` that of each
/// registered party, `looked` when each part was last claimed.
pub(crate) struct Meeting<'a, O, N, R, L> {
    pub(crate) gate: Gate<'a>,
    pub(crate) turn: &'a AtomicU64,
    pub(crate) parties: usize,
    pub(crate) owner: O,
    pub(crate) number: N,
    pub(crate) registration: R,
    pub(crate) looked: L,
}

/// How waiting for a turn's end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// All have come.
    Passed,
    /// The turn was broken.
    Broken,
    /// We ran out of time, and broke it.
    TimedOut,
}

impl<'a, O, N, R, L> Meeting<'a, O, N, R, L>
where
    O: Fn(usize) -> &'a AtomicU64,
    N: Fn(usize) -> &'a AtomicU64,
    R: Fn(usize) -> &'a AtomicU64,
    L: Fn(usize) -> &'a AtomicU64,
{
    pub(crate) fn now(&self) -> Turn {
        Turn(self.turn.load(Ordering::Acquire))
    }

    pub(crate) fn registrations(&self) -> Table<&R> {
        Table::new(self.parties, &self.registration)
    }

    /// How many have arrived in turn `number`: they take the places in order.
    pub(crate) fn arrived(&self, number: u64) -> usize {
        (0..self.parties).take_while(|place| (self.number)(*place).load(Ordering::Acquire) == number).count()
    }

    /// One exchange, and wakes all if it changed anything.
    pub(crate) fn exchange(&self, from: Turn, to: Turn) -> bool {
        let done = self.turn.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        mp_core::step!("barrier.turn", 1);
        if done && from != to {
            self.gate.open_all();
        }
        mp_core::step!("barrier.turn", 2);
        done
    }

    pub(crate) fn change(&self, to: impl Fn(Turn) -> Turn) {
        loop {
            let from = self.now();
            if self.exchange(from, to(from)) {
                return;
            }
        }
    }

    /// Breaks turn `number`, unless it has ended.
    pub(crate) fn break_turn(&self, number: u64) {
        loop {
            let from = self.now();
            if from.number() != number || self.exchange(from, from.broken()) {
                return;
            }
        }
    }

    /// Takes a place in `turn` for `me`, excluding other arrivals; the last to come ends it, or makes it wait for its action.
    /// `None` when the turn has ended meanwhile.
    pub(crate) fn take_place(&self, turn: Turn, acts: bool, me: u64) -> Option<usize> {
        mp_core::step!("barrier.arrive", 1);
        let place = self.arrived(turn.number());
        if self.now() != turn {
            return None;
        }
        if place == self.parties {
            // The last to come died between arriving and ending the turn.
            self.break_turn(turn.number());
            return None;
        }
        (self.owner)(place).store(me, Ordering::Relaxed);
        mp_core::step!("barrier.arrive", 2);
        (self.number)(place).store(turn.number(), Ordering::Release);
        mp_core::step!("barrier.arrive", 3);
        if place + 1 == self.parties {
            // If this fails the turn was broken, which we learn as a waiter.
            let _ = self.exchange(turn, if acts { turn.acting() } else { turn.passed() });
        }
        Some(place)
    }

    /// How turn `number` ended, if it has.
    pub(crate) fn ending(&self, number: u64) -> Option<Ended> {
        self.now().ending_of(number)
    }

    /// Waits, with the place `place`, until turn `number` ends.
    pub(crate) fn await_ending(
        &self,
        number: u64,
        place: usize,
        me: u64,
        mut watch: Watch<'_>,
        alive: impl Fn(u64) -> bool,
    ) -> Met {
        loop {
            let seen = self.gate.look();
            match self.ending(number) {
                Some(Ended::Passed) => return Met::Passed,
                Some(Ended::Broke) => return Met::Broken,
                None => {}
            }
            if watch.over() {
                let turn = self.now();
                if turn.number() == number && self.exchange(turn, turn.broken()) {
                    return Met::TimedOut;
                }
                continue;
            }
            if watch.look_due() && self.somebody_died(number, place, me, &mut watch, &alive) {
                self.break_turn(number);
                continue;
            }
            self.gate.sleep(seen, &mut watch);
        }
    }

    /// Looks after those parts that nobody else has looked at lately (invariant 4), the one of `place` first.
    fn somebody_died(
        &self,
        number: u64,
        place: usize,
        me: u64,
        watch: &mut Watch<'_>,
        alive: impl Fn(u64) -> bool,
    ) -> bool {
        let (now, own, parts) = (watch.now(), place / PART, self.parties.div_ceil(PART));
        let (mut known, mut oldest) = (Known::default(), now);
        for part in (own..parts).chain(0..own) {
            // A turn that has ended needs no looks.
            if self.now().number() != number {
                return false;
            }
            match self.claim(part, now) {
                Err(claimed) => oldest = oldest.min(claimed),
                Ok(()) if self.has_dead(part, number, me, &mut known, &alive) => return true,
                Ok(()) => {}
            }
        }
        watch.look_at(oldest.saturating_add(PERIOD));
        false
    }

    /// Makes the look at `part` the caller's; or when somebody else did lately. Relaxed: nothing but this look hangs on it.
    pub(crate) fn claim(&self, part: usize, now: u64) -> Result<(), u64> {
        let word = (self.looked)(part);
        let last = word.load(Ordering::Relaxed);
        if now.wrapping_sub(last) < PERIOD - EARLY {
            return Err(last);
        }
        word.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).map_err(|_| now)?;
        mp_core::step!("barrier.look", 1);
        Ok(())
    }

    /// Whether somebody of this part who has arrived, or is registered, is dead.
    fn has_dead(
        &self,
        part: usize,
        number: u64,
        me: u64,
        known: &mut Known,
        alive: impl Fn(u64) -> bool,
    ) -> bool {
        let places = part * PART..self.parties.min((part + 1) * PART);
        let came = |place: &usize| (self.number)(*place).load(Ordering::Acquire) == number;
        let arrived = places.clone().filter(came).map(|place| (self.owner)(place).load(Ordering::Acquire));
        arrived.chain(self.registrations().owners(places)).any(|who| who != me && !known.lives(who, &alive))
    }

    /// The processes that have arrived, or run the action.
    pub(crate) fn present(&self) -> Vec<u64> {
        let turn = self.now();
        let arrived = if turn.mode() == Mode::Broken { 0 } else { self.arrived(turn.number()) };
        (0..arrived).map(|place| (self.owner)(place).load(Ordering::Acquire)).collect()
    }
}
