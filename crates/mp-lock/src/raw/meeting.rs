//! The parties of a barrier: who has arrived in which turn, and who has registered.
//!
//! Invariants:
//! 1. A turn ends by one exchange of its word, which also says how. Whoever waited in it reads that afterwards.
//! 2. An arrival counts while its number is the turn's: ending a turn empties the table. Arrivals take the first free
//!    place, excluding each other (the caller's mutex); the owner is stored before the number, which makes it count.
//! 3. The mutex guards nothing that a death can leave wrong, so there is no repair.
//! 4. Each waiter looks each slice after the next two who arrived behind it and are of other processes, in a ring, and after
//!    its share of the registrations: so somebody living looks after everybody.
//!
//! Memory orderings: exchanges of the turn are AcqRel, waiters read it with Acquire: what a party wrote before it arrived,
//! all see who pass (arrivals are chained by the mutex and the turn).

use super::gate::Gate;
use super::sync::{AtomicU64, Watch};
use super::table::Table;
use super::turn::{Ended, Mode, Turn};
use std::sync::atomic::Ordering;

/// A view of a barrier's words: `owner` and `number` give the two words of each arrival, `registration` that of each
/// registered party.
pub(crate) struct Meeting<'a, O, N, R> {
    pub(crate) gate: Gate<'a>,
    pub(crate) turn: &'a AtomicU64,
    pub(crate) parties: usize,
    pub(crate) owner: O,
    pub(crate) number: N,
    pub(crate) registration: R,
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

impl<'a, O, N, R> Meeting<'a, O, N, R>
where
    O: Fn(usize) -> &'a AtomicU64,
    N: Fn(usize) -> &'a AtomicU64,
    R: Fn(usize) -> &'a AtomicU64,
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
            if watch.look_due() && self.somebody_died(number, place, me, &alive) {
                self.break_turn(number);
                continue;
            }
            self.gate.sleep(seen, &mut watch);
        }
    }

    /// Looks after those that fall to the one at `place` (invariant 4).
    fn somebody_died(&self, number: u64, place: usize, me: u64, alive: impl Fn(u64) -> bool) -> bool {
        let arrived = self.arrived(number);
        let behind = (place + 1..arrived).chain(0..place);
        let others = behind.map(|other| (self.owner)(other).load(Ordering::Acquire)).filter(|who| *who != me);
        if others.take(2).any(|who| !alive(who)) {
            return true;
        }
        let share = (place..self.parties).step_by(arrived.max(1));
        self.registrations().owners(share).any(|who| who != me && !alive(who))
    }

    /// The processes that have arrived, or run the action.
    pub(crate) fn present(&self) -> Vec<u64> {
        let turn = self.now();
        let arrived = if turn.mode() == Mode::Broken { 0 } else { self.arrived(turn.number()) };
        (0..arrived).map(|place| (self.owner)(place).load(Ordering::Acquire)).collect()
    }
}
