//! A function with options, ready to be given to a pool: once, or for each of many items.

use crate::async_result::{AsyncResult, Slot, caught, decode};
use crate::callbacks::ToCallback;
use crate::error::TaskError;
use crate::job::{Function, Item, Job, Raw, Receipt, Sink};
use crate::pool::Pool;
use crate::retry::Retry;
use crate::terms::{Place, Terms};
use mp_core::{Deadline, EncodeError};
use mp_process::Task;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A task with options; made by [`Pool::task`].
///
/// ```no_run
/// # fn parse(text: String) -> u64 { text.len() as u64 }
/// use mp_pool::{Pool, Retry};
/// use std::time::Duration;
///
/// # let pool = Pool::new(2)?;
/// let task = pool.task(parse).timeout(Duration::from_secs(5)).retry(Retry::times(2)).priority(10);
/// let length = task.apply(("text".to_owned(),))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct TaskOptions<'a, F> {
    pub(crate) pool: &'a Pool,
    pub(crate) function: F,
    pub(crate) terms: Arc<Terms>,
    pub(crate) chunk: Option<usize>,
    pub(crate) buffer: Option<usize>,
    #[cfg(feature = "indicatif")]
    pub(crate) progress: Option<indicatif::ProgressBar>,
}

impl<'a, F> TaskOptions<'a, F> {
    pub(crate) fn new(pool: &'a Pool, function: F) -> TaskOptions<'a, F> {
        let terms = Arc::clone(pool.terms());
        TaskOptions {
            pool,
            function,
            terms,
            chunk: None,
            buffer: None,
            #[cfg(feature = "indicatif")]
            progress: None,
        }
    }

    fn terms(&mut self) -> &mut Terms {
        Arc::make_mut(&mut self.terms)
    }

    /// How long it may run; its worker is killed then, and it ends with [`TaskError::TimedOut`]. Time in the queue does not count. In
    /// a map it is for each item.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.terms().timeout = Some(timeout);
        self
    }

    /// How long it may wait for its start; then it ends with [`TaskError::QueueTimedOut`] and never runs.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.terms().queue_timeout = Some(timeout);
        self
    }

    /// When all must be over: what has not started by then never does, what runs is killed, and both end with
    /// [`TaskError::DeadlinePassed`]. In a map it is for the whole.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.terms().deadline = Some(deadline);
        self
    }

    /// Tries again after a failure. Only for what may run twice.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.terms().retry = retry;
        self
    }

    /// What is higher starts first, also before tasks that wait at workers already; never in the middle of one, and behind the chunks of a map that wait at
    /// workers: 16 that were cut by hand, or some 12 ms of work. By default 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.terms().priority = priority;
        self
    }

    /// Tasks with one key run in one worker, one after the other, as long as it lives: they find what earlier ones left in
    /// its [state](crate::with_state). A worker that replaces it takes over its keys; a resize moves some.
    pub fn key(mut self, key: impl Hash) -> Self {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        self.terms().place = Place::Key(hasher.hash_one(key));
        self
    }

    /// How many items go to a worker as one, at least 1. Each item has its own result and error all the same, and what has not started of a
    /// chunk goes to others that are idle, or when its worker dies.
    ///
    /// By default a map is cut by how long its items take, from what has come back so far: half a millisecond of work at a time, a few
    /// items while nothing is known, less towards the end. Items with a [time-out](TaskOptions::timeout) or a
    /// [deadline](TaskOptions::deadline), and those of a pool whose [queue is limited](crate::Builder::queue_limit), are cut by their number: four
    /// chunks for each worker. [`imap`](TaskOptions::imap) sends one at a time by default: with `n` it takes `n` items at a time from the
    /// iterator, and the first result is there when the first chunk has run for a millisecond or to its end.
    #[doc(alias = "chunksize")]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk = Some(items.max(1));
        self
    }

    /// How many items [`imap`](TaskOptions::imap) takes ahead of the consumer, at least 1; by default four for each worker, or two chunks.
    #[doc(alias = "buffersize")]
    pub fn buffer(mut self, items: usize) -> Self {
        self.buffer = Some(items.max(1));
        self
    }

    /// A bar that advances by one for each item of a map or stream that is done, in the thread that waits for them. Its length is set when
    /// the number of items is known.
    #[cfg(feature = "indicatif")]
    pub fn progress(mut self, bar: indicatif::ProgressBar) -> Self {
        self.progress = Some(bar);
        self
    }

    /// As [`Pool::apply`].
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn apply<Args>(self, args: Args) -> Result<F::Output, TaskError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let slot = Slot::new(Arc::clone(self.pool.shared()));
        let receipt = Receipt::new(Arc::clone(&slot) as Arc<dyn Sink>, 0);
        if let Some((function, item)) = self.encode::<Args>(Item::new(args, receipt))
            && let Some(job) = self.job(function, [item].into(), Deadline::NEVER)
        {
            self.pool.shared().submit_and_assist(job, || slot.is_ready());
        }
        AsyncResult::one(slot).get()
    }

    /// As [`Pool::apply_async`].
    pub fn apply_async<Args>(self, args: Args) -> AsyncResult<F::Output>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let slot = Slot::new(Arc::clone(self.pool.shared()));
        // Without a limit on time it takes what it needs.
        let _ = self.submit(args, Receipt::new(Arc::clone(&slot) as Arc<dyn Sink>, 0), Deadline::NEVER);
        AsyncResult::one(slot)
    }

    /// As [`apply_async`](TaskOptions::apply_async), but does not wait for room in a [limited](crate::Builder::queue_limit) queue.
    ///
    /// # Errors
    ///
    /// The arguments, when there is no room now.
    pub fn try_apply_async<Args>(self, args: Args) -> Result<AsyncResult<F::Output>, Full<Args>>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let slot = Slot::new(Arc::clone(self.pool.shared()));
        let receipt = Receipt::new(Arc::clone(&slot) as Arc<dyn Sink>, 0);
        if self.submit_item::<Args>(Item::of(&args, receipt), Deadline::after(Duration::ZERO)) {
            Ok(AsyncResult::one(slot))
        } else {
            Err(Full(args))
        }
    }

    /// As [`apply_async`](TaskOptions::apply_async), but a future waits for room in a [limited](crate::Builder::queue_limit) queue, not the
    /// thread. Nothing is submitted before it is polled, nor once it is dropped.
    pub async fn apply_when_room<Args>(self, args: Args) -> AsyncResult<F::Output>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let shared = self.pool.shared();
        let slot = Slot::new(Arc::clone(shared));
        let encoded =
            self.encode::<Args>(Item::new(args, Receipt::new(Arc::clone(&slot) as Arc<dyn Sink>, 0)));
        if let Some((function, mut item)) = encoded {
            if let Some(rooms) = &shared.rooms {
                item.receipt.room = Some(rooms.when_free(item.bytes.len()).await);
            }
            shared.submit(Job::new(function, Arc::clone(&self.terms), [item]));
        }
        AsyncResult::one(slot)
    }

    /// As [`Pool::apply_async_with`].
    pub fn apply_async_with<Args>(
        self,
        args: Args,
        callback: impl FnOnce(F::Output) + Send + 'static,
        error_callback: impl FnOnce(TaskError) + Send + 'static,
    ) where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let call = move |result: Result<Raw, TaskError>| match caught(|| decode::<F::Output>(result)) {
            Ok(value) => callback(value),
            Err(error) => error_callback(error),
        };
        let sink = ToCallback::<Raw>::new(self.pool.callbacks().runner(), call);
        let _ = self.submit(args, Receipt::new(Arc::new(sink), 0), Deadline::NEVER);
    }

    /// Submits one task once there is room for it; false when there was none in time. Then the receipt is settled too.
    pub(crate) fn submit<Args>(&self, args: Args, receipt: Receipt, deadline: Deadline) -> bool
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.submit_item::<Args>(Item::new(args, receipt), deadline)
    }

    pub(crate) fn submit_item<Args>(
        &self,
        item: Result<Item, (EncodeError, Receipt)>,
        deadline: Deadline,
    ) -> bool
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        match self.encode::<Args>(item) {
            Some((function, item)) => self.send(function, [item].into(), deadline),
            None => true,
        }
    }

    /// The function and its item; `None` when that cannot be sent, which the receipt tells.
    fn encode<Args>(&self, item: Result<Item, (EncodeError, Receipt)>) -> Option<(Function, Item)>
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        match (Function::of::<F, Args>(self.function), item) {
            (Some(function), Ok(item)) => return Some((function, item)),
            (None, Ok(item)) => item.receipt.settle(Err(TaskError::UnknownFunction)),
            (_, Err((error, receipt))) => receipt.settle(Err(TaskError::Encode(error))),
        }
        None
    }

    /// Submits a job once there is room for it; false when there was none in time. Then its items are settled too.
    pub(crate) fn send(&self, function: Function, items: VecDeque<Item>, deadline: Deadline) -> bool {
        match self.job(function, items, deadline) {
            Some(job) => {
                self.pool.shared().submit(job);
                true
            }
            None => false,
        }
    }

    fn job(&self, function: Function, mut items: VecDeque<Item>, deadline: Deadline) -> Option<Job> {
        if let Some(rooms) = &self.pool.shared().rooms {
            let bytes: Vec<usize> = items.iter().map(|item| item.bytes.len()).collect();
            let rooms = rooms.take(&bytes, deadline)?;
            items.iter_mut().zip(rooms).for_each(|(item, room)| item.receipt.room = Some(room));
        }
        Some(Job::new(function, Arc::clone(&self.terms), items))
    }
}

impl<F> fmt::Debug for TaskOptions<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOptions").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// The pool's queue is full; the arguments come back.
pub struct Full<Args>(pub Args);

impl<Args> Full<Args> {
    /// The arguments.
    pub fn into_inner(self) -> Args {
        self.0
    }
}

impl<Args> fmt::Debug for Full<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Full").finish_non_exhaustive()
    }
}

impl<Args> fmt::Display for Full<Args> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("submitting to a pool whose queue is full")
    }
}

impl<Args> std::error::Error for Full<Args> {}
