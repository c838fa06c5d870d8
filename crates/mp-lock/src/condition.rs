//! Waiting for something to become true under a lock.
//!
//! Purpose: wait and give the lock back as one step; wake exactly so many of those who wait. Each waiter holds a ticket; a
//! notifier marks tickets, and each waiter looks at its own.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | gate: tickets were marked |
//! | 8..16 | the next number |
//! | 16.. | the tickets: owner, and number with two bits of state |
//!
//! | ticket | becomes |
//! | --- | --- |
//! | free (owner 0, state none) | claimed, by an exchange of the owner |
//! | claimed | waiting, by its owner's store of a fresh number |
//! | waiting | marked, by a notifier's exchange; none, by its owner who is out of time |
//! | marked | none, by its owner who returns |
//! | none, claimed | free, by its owner |
//! | any, its owner dead | claimed by a sweeper (exchange of the owner), who passes a mark on and frees it |
//!
//! Invariants:
//! 1. Numbers are never used twice, so an exchange on a ticket means that very waiter.
//! 2. A mark is passed on by marking another before the dead one's is taken away: a death in between wakes one too many,
//!    never one too few.
//! 3. Nobody waits for a waiter. No sleep is longer than a slice, and each slice a waiter passes on the marks of the dead.
//!
//! Memory orderings: marks are AcqRel, looked for with Acquire; what the lock guards, the lock orders.

use crate::error::{LockError, Refusal};
use crate::gate::Gate;
use crate::lock::LockGuard;
use crate::mutex::MutexGuard;
use crate::orphan::News;
use crate::plain;
use mp_core::deadline::SLICE;
use mp_core::{Deadline, Identity};
use mp_shm::{Format, HEADER, Segment};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"COND", 1);
const GATE: usize = HEADER;
const NUMBER: usize = HEADER + 8;
const TICKETS: usize = HEADER + 16;
const LENGTH: usize = TICKETS - HEADER + MAX_WAITERS * 16;

/// The most that can wait for one condition at a time.
pub const MAX_WAITERS: usize = 1024;

const NONE: u64 = 0;
const WAITING: u64 = 1;
const MARKED: u64 = 2;
const STATE: u64 = 3;

/// A guard that can wait for a [`Condition`]: of a [`Lock`](crate::Lock) or a [`Mutex`](crate::Mutex).
pub trait ConditionGuard: sealed::Sealed {}

mod sealed {
    use crate::orphan::Held;

    #[expect(unnameable_types, reason = "a sealed trait")]
    pub trait Sealed {
        #[doc(hidden)]
        fn held(&mut self) -> HeldOf<'_>;
    }

    /// The ownership inside of a guard.
    #[expect(unnameable_types, missing_debug_implementations, reason = "inside of a sealed trait")]
    pub struct HeldOf<'g>(pub(crate) &'g mut dyn Suspend);

    pub(crate) trait Suspend {
        fn suspend(&mut self);
        fn resume(&mut self) -> Result<crate::orphan::News, crate::error::Refusal>;
        fn is_ours(&self) -> bool;
    }

    impl Suspend for Held<'_> {
        fn suspend(&mut self) {
            Held::suspend(self);
        }

        fn resume(&mut self) -> Result<crate::orphan::News, crate::error::Refusal> {
            Held::resume(self)
        }

        fn is_ours(&self) -> bool {
            Held::is_ours(self)
        }
    }
}

use sealed::HeldOf;

impl sealed::Sealed for LockGuard<'_> {
    fn held(&mut self) -> HeldOf<'_> {
        HeldOf(&mut self.held)
    }
}

impl ConditionGuard for LockGuard<'_> {}

impl<T> sealed::Sealed for MutexGuard<'_, T> {
    fn held(&mut self) -> HeldOf<'_> {
        HeldOf(&mut self.held)
    }
}

impl<T> ConditionGuard for MutexGuard<'_, T> {}

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
pub struct Condition(Segment);

impl Condition {
    /// Makes a condition that nobody waits for.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Condition> {
        Segment::create(FORMAT, LENGTH).map(Condition)
    }

    /// Gives the lock back, waits until notified, and acquires the lock again.
    ///
    /// It may return though nobody notified: look again at what is waited for.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] when a holder died meanwhile: the guard holds the lock, with that news.
    /// [`LockError::TooMany`] when [`MAX_WAITERS`] wait already: the guard holds the lock as before.
    pub fn wait<G: ConditionGuard>(&self, guard: &mut G) -> Result<(), LockError> {
        self.wait_until(guard, Deadline::NEVER).map(|_| ())
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
        self.wait_until(guard, Deadline::after(timeout))
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
        self.wait_until(guard, Deadline::at(deadline))
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
            self.wait_until(guard, deadline)?;
        }
    }

    /// Wakes one that waits, the longest first.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes `count` of those that wait, the longest first; all, when there are fewer.
    pub fn notify(&self, count: usize) {
        let marked = (0..count).take_while(|_| self.mark_oldest()).count();
        mp_core::step!("condition.notify", 2);
        if marked > 0 {
            self.gate().open_all();
        }
        mp_core::step!("condition.notify", 3);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn gate(&self) -> Gate<'_> {
        Gate(self.0.map().atomic_u32(GATE))
    }

    fn owner(&self, place: usize) -> &AtomicU64 {
        self.0.map().atomic_u64(TICKETS + place * 16)
    }

    fn ticket(&self, place: usize) -> &AtomicU64 {
        self.0.map().atomic_u64(TICKETS + place * 16 + 8)
    }

    /// Marks the ticket that waits longest; false when none waits.
    fn mark_oldest(&self) -> bool {
        loop {
            let waiting = |place: usize| {
                let ticket = self.ticket(place).load(Ordering::Acquire);
                (ticket & STATE == WAITING).then_some((ticket, place))
            };
            let Some((ticket, place)) = (0..MAX_WAITERS).filter_map(waiting).min() else { return false };
            let marked = ticket & !STATE | MARKED;
            mp_core::step!("condition.notify", 1);
            if self
                .ticket(place)
                .compare_exchange(ticket, marked, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
            {
                return true;
            }
        }
    }

    /// Takes a ticket that waits.
    fn enlist(&self) -> Option<usize> {
        let me = Identity::current().pack();
        let free = |place: &usize| {
            let owner = self.owner(*place);
            owner.load(Ordering::Relaxed) == 0
                && owner.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let place = (0..MAX_WAITERS).find(free)?;
        mp_core::step!("condition.wait", 1);
        let number = self.0.map().atomic_u64(NUMBER).fetch_add(1, Ordering::Relaxed);
        self.ticket(place).store(number << 2 | WAITING, Ordering::Release);
        mp_core::step!("condition.wait", 2);
        Some(place)
    }

    fn free(&self, place: usize) {
        self.ticket(place).store(NONE, Ordering::Release);
        self.owner(place).store(0, Ordering::Release);
    }

    fn is_marked(&self, place: usize) -> bool {
        self.ticket(place).load(Ordering::Acquire) & STATE == MARKED
    }

    fn wait_until<G: ConditionGuard>(&self, guard: &mut G, deadline: Deadline) -> Result<bool, LockError> {
        let HeldOf(held) = guard.held();
        if !held.is_ours() {
            return Err(LockError::Os(libc::EPERM));
        }
        let place = self.enlist().or_else(|| if self.sweep() { self.enlist() } else { None });
        let place = place.ok_or(LockError::TooMany)?;
        held.suspend();
        mp_core::step!("condition.wait", 3);
        let notified = self.await_mark(place, deadline);
        mp_core::step!("condition.wait", 4);
        self.free(place);
        mp_core::step!("condition.wait", 5);
        match held.resume() {
            Ok(News::None) => Ok(notified),
            Ok(News::OwnerDied) => Err(LockError::OwnerDied),
            Err(Refusal::Os(errno)) => Err(LockError::Os(errno)),
            Err(Refusal::AlreadyHeld) => Err(LockError::AlreadyHeld),
            Err(Refusal::NotNow | Refusal::TooMany) => Err(LockError::TimedOut),
        }
    }

    fn await_mark(&self, place: usize, deadline: Deadline) -> bool {
        Gate::spin(|| self.is_marked(place));
        let mut swept = Instant::now();
        loop {
            let seen = self.gate().look();
            let ticket = self.ticket(place).load(Ordering::Acquire);
            if ticket & STATE == MARKED {
                return true;
            }
            if deadline.passed() {
                // Unless it was marked this very moment.
                let none =
                    self.ticket(place).compare_exchange(ticket, NONE, Ordering::AcqRel, Ordering::Acquire);
                return none.is_err();
            }
            if swept.elapsed() >= SLICE {
                swept = Instant::now();
                if self.sweep() {
                    continue;
                }
            }
            self.gate().sleep(seen, deadline.slice(SLICE));
        }
    }

    /// Frees the tickets of the dead, passing on their marks; whether there were any.
    fn sweep(&self) -> bool {
        let me = Identity::current().pack();
        let mut known: Vec<(u64, bool)> = vec![(me, true)];
        let mut found = false;
        for place in 0..MAX_WAITERS {
            let owner = self.owner(place).load(Ordering::Acquire);
            if owner == 0 {
                continue;
            }
            let lives =
                known.iter().find(|(who, _)| *who == owner).map(|(_, lives)| *lives).unwrap_or_else(|| {
                    let lives = Identity::packed_is_alive(owner);
                    known.push((owner, lives));
                    lives
                });
            let claim =
                |owner| self.owner(place).compare_exchange(owner, me, Ordering::AcqRel, Ordering::Relaxed);
            if lives || claim(owner).is_err() {
                continue;
            }
            found = true;
            self.bury(place);
        }
        found
    }

    /// Frees a ticket that was a dead one's and is ours now.
    fn bury(&self, place: usize) {
        let ticket = self.ticket(place).load(Ordering::Acquire);
        let waits = ticket & STATE == WAITING;
        // Out of the running first, so that no notifier marks it any more; unless one just did.
        let marked = if waits {
            self.ticket(place).compare_exchange(ticket, NONE, Ordering::AcqRel, Ordering::Acquire).is_err()
        } else {
            ticket & STATE == MARKED
        };
        if marked {
            mp_core::step!("condition.sweep", 1);
            if self.mark_oldest() {
                self.gate().open_all();
            }
            mp_core::step!("condition.sweep", 2);
        }
        self.free(place);
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting =
            (0..MAX_WAITERS).filter(|place| self.owner(*place).load(Ordering::Relaxed) != 0).count();
        f.debug_struct("Condition").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condition, D::Error> {
        plain::deserialize(deserializer, FORMAT, LENGTH, true).map(Condition)
    }
}
