//! A meeting point.
//!
//! Purpose: nobody passes before all have arrived, and nobody waits for the dead.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | gate: the turn has changed |
//! | 4..8 | how many parties |
//! | 8..16 | the turn, see `raw/turn.rs` |
//! | 64..120 | the mutex of the arrivals |
//! | 128.. | an arrival for each party: owner, number of the turn |
//! | then | a registration for each party: owner |
//!
//! Invariants:
//! 1. A turn ends by one exchange of its word, which also says how. Whoever waited in it reads that afterwards.
//! 2. An arrival counts while its number is the turn's: ending a turn empties the table. Arrivals take the first free
//!    place, under the mutex; the owner is stored before the number, which makes it count.
//! 3. The mutex guards nothing that a death can leave wrong, so there is no repair. Nobody sleeps holding it, and no action
//!    runs under it.
//! 4. Each waiter looks each slice after the next two who arrived behind it and are of other processes, in a ring, and after
//!    its share of the registrations: so somebody living looks after everybody.
//!
//! Memory orderings: exchanges of the turn are AcqRel, waiters read it with Acquire: what a party wrote before it arrived,
//! all see who pass (arrivals are chained by the mutex and the turn).

use crate::gate::Gate;
use crate::plain;
use crate::raw::table::Table;
use crate::raw::turn::{Ended, Mode, Turn};
use crate::raw::{Acquired, RawLockError, RobustMutex};
use mp_core::deadline::SLICE;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Segment};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = crate::orphan::format(*b"BARR", 0);
const GATE: usize = HEADER;
const PARTIES: usize = HEADER + 4;
const TURN: usize = HEADER + 8;
const MUTEX: usize = HEADER + 64;
const ARRIVALS: usize = HEADER + 128;
const ARRIVAL: usize = 16;

const _: () = assert!(RobustMutex::SIZE <= ARRIVALS - MUTEX);

/// The most parties a barrier can have.
pub const MAX_PARTIES: usize = 4096;

fn length(parties: usize) -> usize {
    ARRIVALS - HEADER + parties * (ARRIVAL + 8)
}

/// Why a party did not pass a barrier.
#[doc(alias = "BrokenBarrierError")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// It is broken: a party died, ran out of time, failed in its action, or somebody aborted or reset it.
    Broken,
    /// This party ran out of time, and so broke it for all.
    TimedOut,
    /// The system refused, with this error number.
    Os(i32),
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierError::Broken => f.write_str("the barrier is broken: `reset` makes it whole"),
            BarrierError::TimedOut => f.write_str("not all parties came to the barrier in time"),
            BarrierError::Os(errno) => {
                write!(f, "wait at a barrier: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for BarrierError {}

/// Where a fixed number of parties meet: nobody passes before all have come.
///
/// A party is a call of [`wait`](Barrier::wait), from any thread of any process; once all have passed, the same barrier
/// serves for the next turn. Cloning it, or sending it to another process, gives another handle on it.
///
/// # When a process dies
///
/// - **Having arrived** (waiting, or running the action): the barrier breaks within 100 ms, and all get
///   [`BarrierError::Broken`].
/// - **Having registered** with [`join_party`](Barrier::join_party): the same, as soon as somebody waits.
/// - **Neither**: nobody can know that it would have come. That is what [`wait_timeout`](Barrier::wait_timeout) is for.
///
/// # Examples
///
/// ```
/// let barrier = mp_lock::Barrier::new(2)?;
/// let other = std::thread::spawn({
///     let barrier = barrier.clone();
///     move || barrier.wait()
/// });
/// let index = barrier.wait()?;
/// assert_eq!(index + other.join().expect("no panic")?, 1, "one gets 0, the other 1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Barrier(Arc<Inner>);

struct Inner {
    segment: Segment,
    parties: usize,
}

impl Barrier {
    /// Makes a barrier for `parties`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for none, or more than [`MAX_PARTIES`]; or there is no memory or no descriptor left for it.
    pub fn new(parties: usize) -> io::Result<Barrier> {
        if parties == 0 || parties > MAX_PARTIES {
            let text = format!("a barrier for {parties} parties: it takes 1 to {MAX_PARTIES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let segment = Segment::create(FORMAT, length(parties))?;
        RobustMutex::init(segment.map(), MUTEX)?;
        let count = u32::try_from(parties).map_err(io::Error::other)?;
        segment.map().atomic_u32(PARTIES).store(count, Ordering::Relaxed);
        // Turn 1, so that the zeroes of the arrivals name no turn that lasts.
        segment.map().atomic_u64(TURN).store(Turn(0).passed().0, Ordering::Relaxed);
        Ok(Barrier(Arc::new(Inner { segment, parties })))
    }

    /// Waits until all parties have come; gives each a number of its own below [`parties`](Barrier::parties), so that the
    /// one who got 0 can do what is to be done once.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`].
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.0.wait(None::<fn()>, Deadline::NEVER)
    }

    /// As [`wait`](Barrier::wait), at most for `timeout`. Who runs out of time breaks the barrier for all.
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] for the one who did, [`BarrierError::Broken`] for the others.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        self.0.wait(None::<fn()>, Deadline::after(timeout))
    }

    /// As [`wait`](Barrier::wait), at most until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Barrier::wait_timeout).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<usize, BarrierError> {
        self.0.wait(None::<fn()>, Deadline::at(deadline))
    }

    /// As [`wait`](Barrier::wait); the last party to come runs its `action` before anyone passes. If the action panics
    /// or its process dies, the barrier breaks.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`].
    #[doc(alias = "action")]
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<usize, BarrierError> {
        self.0.wait(Some(action), Deadline::NEVER)
    }

    /// How many parties it takes.
    #[must_use]
    pub fn parties(&self) -> usize {
        self.0.parties
    }

    /// How many have come and wait. May change at any time.
    #[doc(alias = "n_waiting")]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.arrived(self.0.turn().number())
    }

    /// Whether it is broken. May become whole at any time by a reset.
    #[doc(alias = "broken")]
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.turn().mode() == Mode::Broken
    }

    /// Breaks it: all who wait, and all who come before a [`reset`](Barrier::reset), get [`BarrierError::Broken`].
    pub fn abort(&self) {
        self.0.change(Turn::broken);
    }

    /// Makes it whole and empty; those who wait get [`BarrierError::Broken`]. Registrations of the dead end.
    pub fn reset(&self) {
        self.0.registrations().sweep(Identity::packed_is_alive);
        self.0.change(|turn| turn.reset(self.0.arrived(turn.number()) > 0));
    }

    /// Registers this process as one that will come: from now on its death breaks the barrier for those who wait, even if it
    /// had not arrived. Ends when the party is dropped.
    ///
    /// # Errors
    ///
    /// When as many as the barrier has parties are registered already.
    pub fn join_party(&self) -> Result<Party, TooManyParties> {
        let me = Identity::current().pack();
        let place = self.0.registrations().take(me, 0).ok_or(TooManyParties)?;
        Ok(Party { barrier: Arc::clone(&self.0), place })
    }
}

impl Inner {
    fn turn_word(&self) -> &AtomicU64 {
        self.segment.map().atomic_u64(TURN)
    }

    fn turn(&self) -> Turn {
        Turn(self.turn_word().load(Ordering::Acquire))
    }

    fn gate(&self) -> Gate<'_> {
        Gate(self.segment.map().atomic_u32(GATE))
    }

    fn owner(&self, place: usize) -> &AtomicU64 {
        self.segment.map().atomic_u64(ARRIVALS + place * ARRIVAL)
    }

    fn number(&self, place: usize) -> &AtomicU64 {
        self.segment.map().atomic_u64(ARRIVALS + place * ARRIVAL + 8)
    }

    fn registrations<'a>(&'a self) -> Table<impl Fn(usize) -> &'a AtomicU64> {
        let start = ARRIVALS + self.parties * ARRIVAL;
        Table::new(self.parties, move |place| self.segment.map().atomic_u64(start + place * 8))
    }

    /// How many have arrived in turn `number`: they take the places in order.
    fn arrived(&self, number: u64) -> usize {
        (0..self.parties).take_while(|place| self.number(*place).load(Ordering::Acquire) == number).count()
    }

    /// One exchange, and wakes all if it changed anything.
    fn exchange(&self, from: Turn, to: Turn) -> bool {
        let done =
            self.turn_word().compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        mp_core::step!("barrier.turn", 1);
        if done && from != to {
            self.gate().open_all();
        }
        mp_core::step!("barrier.turn", 2);
        done
    }

    fn change(&self, to: impl Fn(Turn) -> Turn) {
        loop {
            let from = self.turn();
            if self.exchange(from, to(from)) {
                return;
            }
        }
    }

    /// Breaks turn `number`, unless it has ended.
    fn break_turn(&self, number: u64) {
        loop {
            let from = self.turn();
            if from.number() != number || self.exchange(from, from.broken()) {
                return;
            }
        }
    }

    fn wait<A: FnOnce()>(&self, action: Option<A>, deadline: Deadline) -> Result<usize, BarrierError> {
        let (number, place) = self.arrive(action.is_some(), deadline)?;
        match action {
            Some(action) if place + 1 == self.parties => {
                let unless_done = BreakOnDrop { barrier: self, number };
                action();
                std::mem::forget(unless_done);
                let turn = self.turn();
                if turn.number() != number || !self.exchange(turn, turn.passed()) {
                    return Err(BarrierError::Broken);
                }
                Ok(place)
            }
            _ => self.await_ending(number, place, deadline),
        }
    }

    /// Takes a place in the current turn; the last to come ends it, or makes it wait for his action.
    fn arrive(&self, acts: bool, deadline: Deadline) -> Result<(u64, usize), BarrierError> {
        loop {
            let seen = self.gate().look();
            let turn = self.turn();
            match turn.mode() {
                Mode::Broken => return Err(BarrierError::Broken),
                Mode::Filling => {
                    if let Some(place) = self.arrive_in(turn, acts, deadline)? {
                        return Ok((turn.number(), place));
                    }
                }
                // The places of this turn are taken; the next one has not begun.
                Mode::Acting if deadline.passed() => return Err(BarrierError::TimedOut),
                Mode::Acting => self.gate().sleep(seen, deadline.slice(SLICE)),
            }
        }
    }

    fn arrive_in(&self, turn: Turn, acts: bool, deadline: Deadline) -> Result<Option<usize>, BarrierError> {
        let mutex = RobustMutex::at(self.segment.map(), MUTEX);
        match mutex.lock(deadline) {
            Ok(Acquired::Clean) => {}
            Ok(Acquired::OwnerDied) => mutex.mark_consistent(),
            Err(RawLockError::TimedOut) => return Err(BarrierError::TimedOut),
            Err(error) => {
                return Err(BarrierError::Os(io::Error::from(error).raw_os_error().unwrap_or(libc::EDEADLK)));
            }
        }
        let place = self.take_place(turn, acts);
        mutex.unlock();
        mp_core::step!("barrier.arrive", 4);
        Ok(place)
    }

    /// Under the mutex; `None` when the turn has ended meanwhile.
    fn take_place(&self, turn: Turn, acts: bool) -> Option<usize> {
        mp_core::step!("barrier.arrive", 1);
        let place = self.arrived(turn.number());
        if self.turn() != turn {
            return None;
        }
        if place == self.parties {
            // The last to come died between arriving and ending the turn.
            self.break_turn(turn.number());
            return None;
        }
        self.owner(place).store(Identity::current().pack(), Ordering::Relaxed);
        mp_core::step!("barrier.arrive", 2);
        self.number(place).store(turn.number(), Ordering::Release);
        mp_core::step!("barrier.arrive", 3);
        if place + 1 == self.parties {
            // If this fails the turn was broken, which we learn as a waiter.
            let _ = self.exchange(turn, if acts { turn.acting() } else { turn.passed() });
        }
        Some(place)
    }

    fn await_ending(&self, number: u64, place: usize, deadline: Deadline) -> Result<usize, BarrierError> {
        let ending = || self.turn().ending_of(number);
        Gate::spin(|| ending().is_some());
        let mut looked = Instant::now();
        loop {
            let seen = self.gate().look();
            match ending() {
                Some(Ended::Passed) => return Ok(place),
                Some(Ended::Broke) => return Err(BarrierError::Broken),
                None => {}
            }
            if deadline.passed() {
                let turn = self.turn();
                if turn.number() == number && self.exchange(turn, turn.broken()) {
                    return Err(BarrierError::TimedOut);
                }
                continue;
            }
            if looked.elapsed() >= SLICE {
                looked = Instant::now();
                if self.somebody_died(number, place) {
                    self.break_turn(number);
                    continue;
                }
            }
            self.gate().sleep(seen, deadline.slice(SLICE));
        }
    }

    /// Looks after those that fall to the one at `place` (invariant 4).
    fn somebody_died(&self, number: u64, place: usize) -> bool {
        let arrived = self.arrived(number);
        let mine = Identity::current().pack();
        let behind = (place + 1..arrived).chain(0..place);
        let others = behind.map(|other| self.owner(other).load(Ordering::Acquire)).filter(|who| *who != mine);
        if others.take(2).any(|who| !Identity::packed_is_alive(who)) {
            return true;
        }
        let share = (place..self.parties).step_by(arrived.max(1));
        self.registrations().owners(share).any(|who| who != mine && !Identity::packed_is_alive(who))
    }
}

/// Breaks the turn when an action panics.
struct BreakOnDrop<'a> {
    barrier: &'a Inner,
    number: u64,
}

impl Drop for BreakOnDrop<'_> {
    fn drop(&mut self) {
        self.barrier.break_turn(self.number);
    }
}

/// As many as the barrier has parties are registered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyParties;

impl fmt::Display for TooManyParties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all parties of the barrier are registered already")
    }
}

impl std::error::Error for TooManyParties {}

/// The registration of this process as a party of a [`Barrier`], until it is dropped.
#[must_use = "the registration ends as soon as it is dropped"]
pub struct Party {
    barrier: Arc<Inner>,
    place: usize,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.barrier.registrations().give_back(self.place, Identity::current().pack());
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("number", &self.place).finish_non_exhaustive()
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.segment.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Barrier, D::Error> {
        let segment = plain::deserialize(deserializer, FORMAT, length(0), true)?;
        let parties = segment.map().atomic_u32(PARTIES).load(Ordering::Relaxed);
        let parties = usize::try_from(parties).unwrap_or(usize::MAX);
        let fits = (1..=MAX_PARTIES).contains(&parties) && segment.len() >= length(parties);
        if !fits || RobustMutex::find(segment.map(), MUTEX).is_none() {
            return Err(D::Error::custom("there is no barrier in this memory"));
        }
        Ok(Barrier(Arc::new(Inner { segment, parties })))
    }
}
