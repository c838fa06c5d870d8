//! Waiting for something to become true under a lock: wait and give the lock back as one step; wake exactly so many of
//! those who wait. See `raw/tickets.rs` for how it works.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | how many tickets were ever used |
//! | 8..16 | the next number |
//! | 16.. | the tickets, 24 bytes each: owner, number with two bits of state, bell |
//!
//! The first two tickets share the line of what stands before them: one line goes to and fro while few wait.

use crate::error::{LockError, Refusal};
use crate::lock::LockGuard;
use crate::mutex::MutexGuard;
use crate::orphan::{News, Suspend};
use crate::plain;
use crate::raw::sync::{Looks, Watch};
use crate::raw::tickets::{Marked, Tickets};
use crate::rlock::RLockGuard;
use crate::spin::Spin;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Segment, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"COND", 3);
const USED: usize = HEADER;
const NUMBER: usize = HEADER + 8;
const TICKETS: usize = HEADER + 16;
const TICKET: usize = 24;
const LENGTH: usize = TICKETS - HEADER + MAX_WAITERS * TICKET;

/// The most that can wait for one condition at a time.
pub const MAX_WAITERS: usize = 1024;

/// A guard that can wait for a [`Condition`]: of a [`Lock`](crate::Lock), an [`RLock`](crate::RLock) or a
/// [`Mutex`](crate::Mutex).
pub trait ConditionGuard: sealed::Sealed {}

mod sealed {
    use crate::orphan::Suspend;

    #[expect(unnameable_types, reason = "a sealed trait")]
    pub trait Sealed {
        #[doc(hidden)]
        fn held(&mut self) -> HeldOf<'_>;
    }

    /// The ownership inside of a guard.
    #[expect(unnameable_types, missing_debug_implementations, reason = "inside of a sealed trait")]
    pub struct HeldOf<'g>(pub(crate) &'g mut dyn Suspend);
}

use sealed::HeldOf;

impl sealed::Sealed for LockGuard<'_> {
    fn held(&mut self) -> HeldOf<'_> {
        HeldOf(&mut self.held)
    }
}

impl ConditionGuard for LockGuard<'_> {}

impl<T: ?Sized> sealed::Sealed for MutexGuard<'_, T> {
    fn held(&mut self) -> HeldOf<'_> {
        HeldOf(&mut self.held)
    }
}

impl<T: ?Sized> ConditionGuard for MutexGuard<'_, T> {}

impl sealed::Sealed for RLockGuard<'_> {
    fn held(&mut self) -> HeldOf<'_> {
        HeldOf(self)
    }
}

/// The lock is given back as often as this thread holds it, and held as often again afterwards.
impl ConditionGuard for RLockGuard<'_> {}

/// Waiting for something to become true under a lock, and telling those who wait.
///
/// All who wait use the same lock. Cloning it, or sending it to another process, gives another handle on the same
/// condition.
///
/// # When a process dies
///
/// - **Waiting**: nobody else notices; a notification it had been given and not acted upon goes to another waiter within
///   100 ms. [`notify_all`](Condition::notify_all) neither waits for waiters nor counts them.
/// - **Notifying**: so many waiters are woken as it had got to; if it died before it could wake them, they see it within
///   100 ms.
/// - **Holding the lock**: whoever waited gets [`LockError::OwnerDied`], with the lock in his guard.
///
/// # Examples
///
/// ```
/// use mp_lock::{Condition, Mutex};
///
/// let (ready, value) = (Condition::new()?, Mutex::new(0_u32)?);
/// let teller = std::thread::spawn({
///     let (ready, value) = (ready.clone(), value.clone());
///     move || {
///         value.acquire().expect("nobody dies here").set(7);
///         ready.notify_one();
///     }
/// });
/// let mut guard = value.acquire()?;
/// while guard.get() == 0 {
///     ready.wait(&mut guard)?;
/// }
/// assert_eq!(guard.get(), 7);
/// teller.join().expect("no panic");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Condvar")]
#[derive(Clone)]
pub struct Condition(Arc<Inner>);

struct Inner {
    segment: Segment,
    spin: Spin,
    looks: Looks,
}

impl Condition {
    /// Makes a condition that nobody waits for.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Condition> {
        Segment::create(FORMAT, LENGTH).map(Condition::over)
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = HEADER + LENGTH;

    /// Makes one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Condition::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize) -> io::Result<Condition> {
        Segment::place(memory, offset, FORMAT, LENGTH, |_| Ok(())).map(Condition::over)
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Condition> {
        plain::checked(Segment::open_at(memory, offset, FORMAT)?, LENGTH).map(Condition::over)
    }

    fn over(segment: Segment) -> Condition {
        Condition(Arc::new(Inner { segment, spin: Spin::default(), looks: Looks::default() }))
    }

    /// Gives the lock back, waits until notified, and acquires the lock again.
    ///
    /// It may return though nobody notified: look again at what is waited for.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] when a holder died meanwhile: the guard holds the lock, with that news.
    /// [`LockError::TooMany`] when [`MAX_WAITERS`] wait already: the guard holds the lock as before.
    #[inline]
    pub fn wait<G: ConditionGuard>(&self, guard: &mut G) -> Result<(), LockError> {
        self.wait_by(guard, Deadline::NEVER).map(|_| ())
    }

    /// As [`wait`](Condition::wait), at most for `timeout`; whether it was notified. Acquiring the lock again may take
    /// longer.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_timeout<G: ConditionGuard>(
        &self,
        guard: &mut G,
        timeout: Duration,
    ) -> Result<bool, LockError> {
        self.wait_by(guard, Deadline::after(timeout))
    }

    /// As [`wait`](Condition::wait), at most until `deadline`; whether it was notified.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_deadline<G: ConditionGuard>(
        &self,
        guard: &mut G,
        deadline: Instant,
    ) -> Result<bool, LockError> {
        self.wait_by(guard, Deadline::at(deadline))
    }

    /// Waits until `ready` says so of the guard, at most for `timeout`; what it said last.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    #[doc(alias = "wait_while")]
    pub fn wait_for<G: ConditionGuard>(
        &self,
        guard: &mut G,
        timeout: Duration,
        mut ready: impl FnMut(&mut G) -> bool,
    ) -> Result<bool, LockError> {
        let deadline = Deadline::after(timeout);
        loop {
            if ready(guard) {
                return Ok(true);
            }
            if deadline.passed() {
                return Ok(false);
            }
            self.wait_by(guard, deadline)?;
        }
    }

    /// Waits until `ready` says so of the guard, for ever if need be.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condition::wait).
    pub fn wait_until<G: ConditionGuard>(
        &self,
        guard: &mut G,
        ready: impl FnMut(&mut G) -> bool,
    ) -> Result<(), LockError> {
        self.wait_for(guard, Duration::MAX, ready).map(|_| ())
    }

    /// Wakes one that waits, the longest first.
    #[doc(alias = "notify")]
    #[inline(always)]
    pub fn notify_one(&self) {
        if let Some(marked) = self.mark_one() {
            marked.wake();
        }
        mp_core::step!("condition.notify", 4);
    }

    /// Notifies one; whom to wake.
    fn mark_one(&self) -> Option<Marked<'_>> {
        self.tickets().notify_one()
    }

    /// Wakes `count` of those that wait, the longest first; all, when there are fewer.
    pub fn notify(&self, count: usize) {
        self.tickets().notify(count);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn tickets<'a>(
        &'a self,
    ) -> Tickets<
        'a,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU32,
    > {
        let map = self.0.segment.map();
        Tickets {
            number: map.atomic_u64(NUMBER),
            used: map.atomic_u32(USED),
            most: MAX_WAITERS,
            owner: |place: usize| map.atomic_u64(TICKETS + place * TICKET),
            state: |place: usize| map.atomic_u64(TICKETS + place * TICKET + 8),
            bell: |place: usize| map.atomic_u32(TICKETS + place * TICKET + 16),
        }
    }

    #[inline(always)]
    fn wait_by<G: ConditionGuard>(&self, guard: &mut G, deadline: Deadline) -> Result<bool, LockError> {
        let HeldOf(held) = guard.held();
        let place = self.enlist(held)?;
        let mut watch = Watch::among(&self.0.looks, deadline);
        // As with `wake`: nothing returns between two sleeps but what was called after the first.
        let notified = loop {
            match self.ended(place, &mut watch) {
                Ok(notified) => break notified,
                Err(rung) => watch.sleep((self.tickets().bell)(place), rung),
            }
        };
        self.leave(held, place, notified)
    }

    /// Takes a ticket, and gives the lock back.
    fn enlist(&self, held: &mut dyn Suspend) -> Result<usize, LockError> {
        if !held.is_ours() {
            return Err(LockError::Os(libc::EPERM));
        }
        let (tickets, me) = (self.tickets(), Identity::current_packed());
        let swept = || tickets.sweep(me, Identity::packed_is_alive);
        let enlisted = tickets.enlist(me).or_else(|| if swept() { tickets.enlist(me) } else { None });
        let place = enlisted.ok_or(LockError::TooMany)?;
        held.suspend();
        mp_core::step!("condition.wait", 3);
        let _ = self.0.spin.until(|| tickets.is_marked(place));
        Ok(place)
    }

    fn ended(&self, place: usize, watch: &mut Watch<'_>) -> Result<bool, u32> {
        self.tickets().ended(place, Identity::current_packed(), watch, Identity::packed_is_alive)
    }

    /// Gives the ticket back, and takes the lock.
    fn leave(&self, held: &mut dyn Suspend, place: usize, notified: bool) -> Result<bool, LockError> {
        mp_core::step!("condition.wait", 4);
        self.tickets().free(place);
        mp_core::step!("condition.wait", 5);
        match held.resume() {
            Ok(News::None) => Ok(notified),
            Ok(News::OwnerDied) => Err(LockError::OwnerDied),
            Err(Refusal::Os(errno)) => Err(LockError::Os(errno)),
            Err(Refusal::AlreadyHeld) => Err(LockError::AlreadyHeld),
            Err(Refusal::NotNow | Refusal::TooMany) => Err(LockError::TimedOut),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.tickets().taken()).finish_non_exhaustive()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.segment.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condition, D::Error> {
        plain::deserialize(deserializer, FORMAT, LENGTH).map(Condition::over)
    }
}
