//! A meeting point: nobody passes before all have arrived, and nobody waits for the dead. See `raw/meeting.rs` for how it
//! works.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | gate: the turn has changed |
//! | 4..8 | how many parties |
//! | 8..16 | the turn, see `raw/turn.rs` |
//! | 16..24 | how long a party waits that does not say, in nanoseconds; all ones for ever |
//! | 64..120 | the mutex of the arrivals |
//! | 128.. | an arrival for each party: owner, number of the turn |
//! | then | a registration for each party: owner |
//! | then | for each 64 of them when somebody last began to look after these, in milliseconds |
//!
//! Nobody sleeps holding the mutex, and no action runs under it.

use crate::orphan::Owner;
use crate::plain;
use crate::raw::gate::Gate;
use crate::raw::meeting::{Meeting, Met, PART};
use crate::raw::sync::Watch;
use crate::raw::turn::{Mode, Turn};
use crate::raw::{Acquired, RawLockError, RobustMutex};
use crate::spin::Spin;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Mapping, Segment, SharedMemory};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format { version: 3, ..crate::orphan::format(*b"BARR", 0) };
const GATE: usize = HEADER;
const PARTIES: usize = HEADER + 4;
const TURN: usize = HEADER + 8;
const PATIENCE: usize = HEADER + 16;
const MUTEX: usize = HEADER + 64;
const ARRIVALS: usize = HEADER + 128;
const ARRIVAL: usize = 16;

const _: () = assert!(RobustMutex::SIZE <= ARRIVALS - MUTEX);

/// The most parties a barrier can have.
pub const MAX_PARTIES: usize = 4096;

const fn length(parties: usize) -> usize {
    ARRIVALS - HEADER + parties * (ARRIVAL + 8) + parties.div_ceil(PART) * 8
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
    /// How long a party waits that does not say; `Duration::MAX` for ever.
    patience: Duration,
    spin: Spin,
}

impl Barrier {
    /// Makes a barrier for `parties`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for none, or more than [`MAX_PARTIES`]; or there is no memory or no descriptor left for it.
    pub fn new(parties: usize) -> io::Result<Barrier> {
        Barrier::with_timeout(parties, Duration::MAX)
    }

    /// Makes one at which [`wait`](Barrier::wait) and [`wait_with`](Barrier::wait_with) last at most `timeout`, as
    /// [`wait_timeout`](Barrier::wait_timeout) does.
    ///
    /// # Errors
    ///
    /// As [`new`](Barrier::new).
    pub fn with_timeout(parties: usize, timeout: Duration) -> io::Result<Barrier> {
        in_bounds(parties)?;
        let segment = Segment::create(FORMAT, length(parties))?;
        build(segment.map(), parties, timeout)?;
        Barrier::over(segment)
    }

    /// How many bytes of named memory one for `parties` takes.
    #[must_use]
    pub const fn size(parties: usize) -> usize {
        HEADER + length(parties)
    }

    /// Makes one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name. `timeout` as for
    /// [`with_timeout`](Barrier::with_timeout).
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Barrier::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit, or the number of parties is out of bounds.
    pub fn new_in(
        memory: &SharedMemory,
        offset: usize,
        parties: usize,
        timeout: Duration,
    ) -> io::Result<Barrier> {
        in_bounds(parties)?;
        let build = |map: &Mapping| build(map, parties, timeout);
        Barrier::over(Segment::place(memory, offset, FORMAT, length(parties), build)?)
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Barrier> {
        Barrier::over(Segment::open_at(memory, offset, FORMAT)?)
    }

    fn over(segment: Segment) -> io::Result<Barrier> {
        let segment = plain::checked(segment, length(0))?;
        let parties = segment.map().atomic_u32(PARTIES).load(Ordering::Relaxed);
        let parties = usize::try_from(parties).unwrap_or(usize::MAX);
        let fits = (1..=MAX_PARTIES).contains(&parties) && segment.len() >= length(parties);
        if !fits || RobustMutex::find(segment.map(), MUTEX).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no barrier in this memory"));
        }
        let patience = match segment.map().atomic_u64(PATIENCE).load(Ordering::Relaxed) {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        };
        Ok(Barrier(Arc::new(Inner { segment, parties, patience, spin: Spin::default() })))
    }

    /// Waits until all parties have come; gives each a number of its own below [`parties`](Barrier::parties), so that the
    /// one who got 0 can do what is to be done once.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`]; [`BarrierError::TimedOut`] when the barrier was made with a time-out.
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.0.wait(None::<fn()>, Deadline::after(self.0.patience))
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
        self.0.wait(Some(action), Deadline::after(self.0.patience))
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
        self.0.meeting().arrived(self.0.meeting().now().number())
    }

    /// Whether it is broken. May become whole at any time by a reset.
    #[doc(alias = "broken")]
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.meeting().now().mode() == Mode::Broken
    }

    /// Breaks it: all who wait, and all who come before a [`reset`](Barrier::reset), get [`BarrierError::Broken`].
    pub fn abort(&self) {
        self.0.meeting().change(Turn::broken);
    }

    /// Makes it whole and empty; those who wait get [`BarrierError::Broken`]. Registrations of the dead end.
    pub fn reset(&self) {
        let meeting = self.0.meeting();
        meeting.registrations().sweep(Identity::packed_is_alive);
        meeting.change(|turn| turn.reset(meeting.arrived(turn.number()) > 0));
    }

    /// Registers this process as one that will come: from now on its death breaks the barrier for those who wait, even if it
    /// had not arrived. Ends when the party is dropped.
    ///
    /// # Errors
    ///
    /// When as many as the barrier has parties are registered already.
    pub fn join_party(&self) -> Result<Party, TooManyParties> {
        let me = Identity::current().pack();
        let place = self.0.meeting().registrations().take(me, 0).ok_or(TooManyParties)?;
        Ok(Party { barrier: Arc::clone(&self.0), place })
    }
}

fn in_bounds(parties: usize) -> io::Result<()> {
    if (1..=MAX_PARTIES).contains(&parties) {
        return Ok(());
    }
    let text = format!("a barrier for {parties} parties: it takes 1 to {MAX_PARTIES}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

fn build(map: &Mapping, parties: usize, timeout: Duration) -> io::Result<()> {
    RobustMutex::init(map, MUTEX)?;
    let count = u32::try_from(parties).map_err(io::Error::other)?;
    map.atomic_u32(PARTIES).store(count, Ordering::Relaxed);
    let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    map.atomic_u64(PATIENCE).store(nanos, Ordering::Relaxed);
    // Turn 1, so that the zeroes of the arrivals name no turn that lasts.
    map.atomic_u64(TURN).store(Turn(0).passed().0, Ordering::Relaxed);
    Ok(())
}

impl Inner {
    #[expect(clippy::type_complexity, reason = "four words, each at its own place")]
    fn meeting<'a>(
        &'a self,
    ) -> Meeting<
        'a,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
    > {
        let (map, registrations) = (self.segment.map(), ARRIVALS + self.parties * ARRIVAL);
        let looked = registrations + self.parties * 8;
        Meeting {
            gate: Gate(map.atomic_u32(GATE)),
            turn: map.atomic_u64(TURN),
            parties: self.parties,
            owner: move |place: usize| map.atomic_u64(ARRIVALS + place * ARRIVAL),
            number: move |place: usize| map.atomic_u64(ARRIVALS + place * ARRIVAL + 8),
            registration: move |place: usize| map.atomic_u64(registrations + place * 8),
            looked: move |part: usize| map.atomic_u64(looked + part * 8),
        }
    }

    fn wait<A: FnOnce()>(&self, action: Option<A>, deadline: Deadline) -> Result<usize, BarrierError> {
        let (number, place) = self.arrive(action.is_some(), deadline)?;
        match action {
            Some(action) if place + 1 == self.parties => self.act(number, place, action),
            _ => self.await_ending(number, place, deadline),
        }
    }

    /// Runs the action, then lets all pass.
    fn act(&self, number: u64, place: usize, action: impl FnOnce()) -> Result<usize, BarrierError> {
        let unless_done = BreakOnDrop { barrier: self, number };
        action();
        std::mem::forget(unless_done);
        let (meeting, turn) = (self.meeting(), self.meeting().now());
        if turn.number() != number || !meeting.exchange(turn, turn.passed()) {
            return Err(BarrierError::Broken);
        }
        Ok(place)
    }

    /// Takes a place in the current turn; the last to come ends it, or makes it wait for his action.
    fn arrive(&self, acts: bool, deadline: Deadline) -> Result<(u64, usize), BarrierError> {
        let (meeting, mut watch) = (self.meeting(), Watch::until(deadline));
        loop {
            let seen = meeting.gate.look();
            let turn = meeting.now();
            match turn.mode() {
                Mode::Broken => return Err(BarrierError::Broken),
                Mode::Filling => {
                    if let Some(place) = self.arrive_in(turn, acts, deadline)? {
                        return Ok((turn.number(), place));
                    }
                }
                // The places of this turn are taken; the next one has not begun.
                Mode::Acting if watch.over() => return Err(BarrierError::TimedOut),
                Mode::Acting => {
                    watch.look_due();
                    meeting.gate.sleep(seen, &mut watch);
                }
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
        let place = self.meeting().take_place(turn, acts, Identity::current().pack());
        mutex.unlock();
        mp_core::step!("barrier.arrive", 4);
        Ok(place)
    }

    fn await_ending(&self, number: u64, place: usize, deadline: Deadline) -> Result<usize, BarrierError> {
        let (meeting, me) = (self.meeting(), Identity::current().pack());
        let _ = self.spin.until(|| meeting.ending(number).is_some());
        let watch = Watch::until(deadline);
        match meeting.await_ending(number, place, me, watch, Identity::packed_is_alive) {
            Met::Passed => Ok(place),
            Met::Broken => Err(BarrierError::Broken),
            Met::TimedOut => Err(BarrierError::TimedOut),
        }
    }
}

/// Breaks the turn when an action panics.
struct BreakOnDrop<'a> {
    barrier: &'a Inner,
    number: u64,
}

impl Drop for BreakOnDrop<'_> {
    fn drop(&mut self) {
        self.barrier.meeting().break_turn(self.number);
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

/// The registration of this process as a party of a [`Barrier`], until it is dropped. Should the process die before, the barrier breaks
/// within 100 ms for those who wait.
#[must_use = "the registration ends as soon as it is dropped"]
pub struct Party {
    barrier: Arc<Inner>,
    place: usize,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.barrier.meeting().registrations().give_back(self.place, Identity::current().pack());
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
            .field("waiting", &self.0.meeting().present().into_iter().map(Owner).collect::<Vec<_>>())
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
        let segment = plain::deserialize(deserializer, FORMAT, length(0))?;
        Barrier::over(segment).map_err(D::Error::custom)
    }
}
