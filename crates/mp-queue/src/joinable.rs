//! `JoinableQueue`: a queue that knows when everything that was put is done.

use crate::claims::{Claimed, Claims};
use crate::core::Core;
use crate::end::{End, Kind};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use crate::methods::{get, get_claimed, getting, handle, looking, put, putting};
use mp_core::Deadline;
use mp_pipe::packet;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// What becomes of a value whose consumer died, or gave it back, before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// It is handed out again, before all others, as often as needed. A value that kills each of its consumers goes on killing.
    Redeliver,
    /// It is handed out again so many times; then it is counted lost.
    RedeliverAtMost(u32),
    /// It is counted lost: nobody gets a value twice.
    CountLost,
}

impl OnDeath {
    const fn again(self) -> u32 {
        match self {
            OnDeath::Redeliver => u32::MAX,
            OnDeath::RedeliverAtMost(times) => times,
            OnDeath::CountLost => 0,
        }
    }
}

/// Nothing was there to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// This process has nothing left that it got and has not called done: `task_done` was called more often than `get`.
    NothingClaimed,
    /// The claim is another process's: it was made before a fork.
    NotClaimed,
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskDoneError::NothingClaimed => "task_done was called more often than get in this process",
            TaskDoneError::NotClaimed => "a claim of another process",
        })
    }
}

impl std::error::Error for TaskDoneError {}

/// A queue whose [`join`](JoinableQueue::join) waits until each value that was put has been got *and* called done.
///
/// Getting a value claims it for this process; [`task_done`](JoinableQueue::task_done) or [`Claim::done`] settles the claim. When a process
/// dies with claims, they are handed out again or counted lost, as [`OnDeath`] says, and `join` goes on: those who wait in `get` or
/// `join` look after the dead every 100 ms. So with redelivery a value may be got twice (its consumer died after its work and before
/// `task_done`), and is never lost while somebody gets.
///
/// A process that drops its last handle of the queue gives back what it got and did not call done, as if it had died.
///
/// A value with handles is never handed out again, since its handles went down with its consumer: it is counted lost. So is one that
/// cannot be decoded.
///
/// All else is as on a [`Queue`](crate::Queue), of which this is no half: it cannot be split.
///
/// # Examples
///
/// ```
/// use mp_queue::JoinableQueue;
/// use std::thread;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = JoinableQueue::new()?;
/// let worker = {
///     let queue = queue.clone();
///     thread::spawn(move || {
///         for number in queue.iter() {
///             let _square = number.unwrap() * 7_u64;
///             queue.task_done().unwrap();
///         }
///     })
/// };
/// for number in 0..10 {
///     queue.put(number)?;
/// }
/// queue.join()?; // all ten are done
/// assert_eq!(queue.unfinished(), 0);
/// queue.close()?;
/// # worker.join().unwrap();
/// # Ok(())
/// # }
/// ```
pub struct JoinableQueue<T> {
    put_end: End,
    get_end: End,
    values: PhantomData<fn(T) -> T>,
}

impl<T> JoinableQueue<T> {
    pub(crate) const WATCHED: bool = false;

    /// Makes a queue without a bound that hands values of dead consumers out again.
    ///
    /// # Errors
    ///
    /// When there is no memory, or no descriptors are left.
    pub fn new() -> io::Result<JoinableQueue<T>> {
        JoinableQueue::create(u64::MAX, OnDeath::Redeliver)
    }

    /// As [`new`](JoinableQueue::new), holding at most `bound` values. Claimed ones do not count.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bound of zero; when there is no memory, or no descriptors are left.
    pub fn bounded(bound: usize) -> io::Result<JoinableQueue<T>> {
        JoinableQueue::with_policy(Some(bound), OnDeath::Redeliver)
    }

    /// Makes a queue with a bound or without one, and says what becomes of the claims of dead consumers.
    ///
    /// # Errors
    ///
    /// As [`bounded`](JoinableQueue::bounded).
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_queue::{JoinableQueue, OnDeath};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = JoinableQueue::with_policy(None, OnDeath::RedeliverAtMost(1))?;
    /// queue.put("hard".to_owned())?;
    /// let (_, claim) = queue.claim()?;
    /// drop(claim); // not done: the next one gets it
    /// let (_, claim) = queue.claim()?;
    /// assert_eq!(claim.deliveries(), 2);
    /// drop(claim);
    /// queue.join()?;
    /// assert_eq!(queue.lost(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_policy(bound: Option<usize>, on_death: OnDeath) -> io::Result<JoinableQueue<T>> {
        match bound {
            Some(0) => {
                let text = "a queue that holds nothing: use a bound of one or more, or none";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            Some(bound) => JoinableQueue::create(bound as u64, on_death),
            None => JoinableQueue::create(u64::MAX, on_death),
        }
    }

    fn create(bound: u64, on_death: OnDeath) -> io::Result<JoinableQueue<T>> {
        let (put_end, get_end) = packet::pair()?;
        let core = Arc::new(Core::create(bound, Some(Claims::create(on_death.again())?))?);
        let put_end = End::new(Arc::clone(&core), put_end.into());
        Ok(JoinableQueue { put_end, get_end: End::new(core, get_end.into()), values: PhantomData })
    }

    pub(crate) fn put_end(&self) -> &End {
        &self.put_end
    }

    pub(crate) fn get_end(&self) -> &End {
        &self.get_end
    }

    fn core(&self) -> &Core {
        self.put_end.core()
    }

    /// The oldest value that this process got with [`get`](JoinableQueue::get) and its like is done.
    ///
    /// Never waits. Killed in the middle of it, the process has called the value done, or has not.
    ///
    /// # Errors
    ///
    /// [`NothingClaimed`](TaskDoneError::NothingClaimed) when all of them are. Those got with [`claim`](JoinableQueue::claim)
    /// have a token of their own.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        if self.core().settle_oldest() { Ok(()) } else { Err(TaskDoneError::NothingClaimed) }
    }

    /// Waits until every value that was put is done or counted lost.
    ///
    /// It waits for ever when nobody gets what is inside. The death of a consumer is seen within 100 ms.
    ///
    /// # Errors
    ///
    /// When the queue's memory was damaged, or cannot be mapped.
    pub fn join(&self) -> io::Result<()> {
        self.core().join(Deadline::NEVER).map(drop)
    }

    /// As [`join`](JoinableQueue::join), at most `timeout`; false when something is still to be done then. A time-out of zero looks once.
    ///
    /// # Errors
    ///
    /// As [`join`](JoinableQueue::join).
    pub fn join_timeout(&self, timeout: Duration) -> io::Result<bool> {
        self.core().join(Deadline::after(timeout))
    }

    /// As [`join_timeout`](JoinableQueue::join_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`join`](JoinableQueue::join).
    pub fn join_deadline(&self, deadline: Instant) -> io::Result<bool> {
        self.core().join(Deadline::at(deadline))
    }

    /// How many values are inside, or claimed and not done. Others may change it at any time.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        // Those inside first: one that is claimed meanwhile is counted twice then, not missed.
        let inside = self.core().ring.len();
        let claimed = self.core().claims.as_ref().map_or(0, |claims| claims.unfinished().0);
        usize::try_from(inside.saturating_add(claimed)).unwrap_or(usize::MAX)
    }

    /// How many values nobody is going to do: see [`OnDeath`]. It only grows.
    #[must_use]
    pub fn lost(&self) -> usize {
        let lost = self.core().claims.as_ref().map_or(0, Claims::lost);
        usize::try_from(lost).unwrap_or(usize::MAX)
    }

    looking!();
}

impl<T: Serialize + 'static> JoinableQueue<T> {
    putting!();
}

impl<T: DeserializeOwned + 'static> JoinableQueue<T> {
    getting!();

    /// Gets the next value with a token that settles it; waits for it.
    ///
    /// # Errors
    ///
    /// See [`GetError`].
    pub fn claim(&self) -> Result<(T, Claim), GetError> {
        // Without a deadline the wait ends only with a value or an error.
        self.claim_until(Deadline::NEVER)?.ok_or(GetError::Closed)
    }

    /// As [`claim`](JoinableQueue::claim), if there is a value now.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryGetError::Empty) when not, else see [`GetError`].
    pub fn try_claim(&self) -> Result<(T, Claim), TryGetError> {
        self.claim_until(Deadline::after(Duration::ZERO))?.ok_or(TryGetError::Empty)
    }

    /// As [`claim`](JoinableQueue::claim); waits at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](GetTimeoutError::TimedOut) when no value came, else see [`GetError`].
    pub fn claim_timeout(&self, timeout: Duration) -> Result<(T, Claim), GetTimeoutError> {
        self.claim_until(Deadline::after(timeout))?.ok_or(GetTimeoutError::TimedOut)
    }

    /// As [`claim_timeout`](JoinableQueue::claim_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`claim_timeout`](JoinableQueue::claim_timeout).
    pub fn claim_deadline(&self, deadline: Instant) -> Result<(T, Claim), GetTimeoutError> {
        self.claim_until(Deadline::at(deadline))?.ok_or(GetTimeoutError::TimedOut)
    }

    /// As [`claim`](JoinableQueue::claim), in a future, under any executor.
    ///
    /// # Errors
    ///
    /// See [`GetError`].
    #[cfg(feature = "async")]
    pub async fn claim_async(&self) -> Result<(T, Claim), GetError> {
        let (value, claimed) = crate::methods::get_async(&self.get_end, Self::WATCHED).await?;
        Ok((value, Claim { core: Arc::clone(self.get_end.core()), claimed }))
    }

    fn claim_until(&self, deadline: Deadline) -> Result<Option<(T, Claim)>, GetError> {
        let core = self.get_end.core();
        let got = get_claimed(core, self.get_end.socket(), Self::WATCHED, deadline)?;
        Ok(got.map(|(value, claimed)| (value, Claim { core: Arc::clone(core), claimed })))
    }
}

/// What is to be done, as a token: [`done`](Claim::done) settles it. Dropped without that, the value goes back, as if this process
/// had died with it: so a panic or an early return loses nothing.
#[must_use = "dropped, it gives the value back"]
pub struct Claim {
    core: Arc<Core>,
    claimed: Option<Claimed>,
}

impl Claim {
    /// The value is done. Never waits.
    ///
    /// # Errors
    ///
    /// [`NotClaimed`](TaskDoneError::NotClaimed) in a forked child: the claim is its parent's.
    pub fn done(mut self) -> Result<(), TaskDoneError> {
        let claimed = self.claimed.take().ok_or(TaskDoneError::NotClaimed)?;
        if self.core.settle(claimed) { Ok(()) } else { Err(TaskDoneError::NotClaimed) }
    }

    /// How often the value was handed out, this time included.
    #[must_use]
    pub fn deliveries(&self) -> u32 {
        self.claimed.map_or(0, |claimed| claimed.deliveries)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(claimed) = self.claimed.take() {
            self.core.give_claim_back(claimed);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("deliveries", &self.deliveries()).finish_non_exhaustive()
    }
}

handle!(JoinableQueue, Kind::Joinable, put_end, get_end);
