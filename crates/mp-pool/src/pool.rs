//! The pool as its users see it.

use crate::async_result::AsyncResult;
use crate::book::Book;
use crate::builder::{Builder, Interrupts};
use crate::callbacks::Callbacks;
use crate::error::{PoolError, TaskError};
use crate::gather::ToStream;
use crate::imap::Imap;
use crate::inbox::Shared;
use crate::job::{Function, Item, Job, Receipt, Sink};
use crate::keeper;
use crate::observe::Observer;
use crate::owner::Owner;
use crate::posts::{Staff, first_posts};
use crate::recipe::Recipe;
use crate::room::{Most, Rooms};
use crate::seat::Seat;
use crate::stats::Stats;
use crate::task::TaskOptions;
use crate::terms::{Place, Terms};
use mp_process::Task;
use serde::{Serialize, de::DeserializeOwned};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::{error, fmt, io};

/// A pool of worker processes.
///
/// Each worker has a line of its own to the pool, and shares no lock with anybody: whatever a task does to its worker, the others go
/// on, and the worker is replaced.
///
/// | a task | what its submitter gets |
/// | --- | --- |
/// | returns, whatever it returns | that |
/// | panics | [`TaskError::Panicked`]; the worker goes on |
/// | exits, aborts, crashes, overflows its stack, is killed | [`TaskError::WorkerDied`] with the cause |
/// | runs past its time-out | [`TaskError::TimedOut`] |
/// | allocates past the memory limit | [`TaskError::WorkerDied`] with [`Cause::Memory`](crate::Cause::Memory) |
/// | had not started when its worker died | its result: it ran elsewhere |
///
/// A task that has started is never run again, unless it is to be [retried](TaskOptions::retry). Dropping the pool terminates it, as the end of Python's `with` block does.
#[doc(alias = "multiprocessing.Pool")]
#[doc(alias = "ProcessPoolExecutor")]
pub struct Pool {
    shared: Arc<Shared>,
    workers: AtomicUsize,
    terms: Arc<Terms>,
    keeper: Option<JoinHandle<()>>,
    callbacks: Callbacks,
    events: Option<JoinHandle<()>>,
}

/// A panic elsewhere leaves the pool whole: its state is its owner's alone.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

/// The pool takes tasks still: close or terminate it before joining. It comes back in this error.
pub struct NotClosed(pub Pool);

/// How a pool ended; what [`Pool::join`] returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Tasks that ended in an error that nobody has read: their [`AsyncResult`] was dropped. Those that were cancelled do not count.
    pub unread_errors: u64,
    /// What the pool did, with no workers left.
    pub stats: Stats,
}

/// Everything a pool is started with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) recipe: Recipe,
    pub(crate) staff: Staff,
    pub(crate) terms: Terms,
    pub(crate) most: Option<Most>,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) interrupts: Option<Interrupts>,
    pub(crate) inline: bool,
}

impl Pool {
    /// Makes a pool of `workers` processes. Returns once each of them is started, before it is ready: its first task waits for it. For
    /// workers that are started as there is work, see [`Builder::min_workers`].
    ///
    /// # Errors
    ///
    /// See [`PoolError`].
    pub fn new(workers: usize) -> Result<Pool, PoolError> {
        Builder::default().workers(workers).build()
    }

    /// Options for a pool; without any it has as many workers as processors may be used.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(plan: Plan) -> Result<Pool, PoolError> {
        let Plan { workers, recipe, staff, terms, most, trace, interrupts, inline } = plan;
        let (observer, events) = Observer::new(trace.as_deref())?.unzip();
        let shared = Arc::new(Shared::new(observer.clone(), most.map(Rooms::new), inline)?);
        let mut keeper = None;
        if !inline {
            let book = Book::new(observer);
            let posts = first_posts(&recipe, workers, staff.least, &book)?;
            *shared.owner() = Some(Owner::new(Arc::clone(&shared), recipe, staff, posts, book));
            let own = Arc::clone(&shared);
            let run = move || keeper::run(&own, interrupts);
            keeper = match thread::Builder::new().name("mp-pool".into()).spawn(run) {
                Ok(keeper) => Some(keeper),
                Err(error) => {
                    // The owner and what is shared hold each other.
                    let owner = shared.owner().take();
                    owner.iter().flat_map(Owner::seats).for_each(Seat::kill);
                    drop(owner);
                    return Err(error.into());
                }
            };
        }
        let (workers, terms) = (AtomicUsize::new(workers), Arc::new(terms));
        Ok(Pool { shared, workers, terms, keeper, callbacks: Callbacks::default(), events })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    /// How many workers it has, or may have when it has less for want of work.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }

    /// From now on it has `workers` workers. New ones start at once; of those that are too many, what runs runs to its end, and what
    /// waits there goes to others. Does not wait.
    ///
    /// # Errors
    ///
    /// [`PoolError::NoWorkers`] for zero.
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        self.workers.store(workers, Relaxed);
        self.shared.tell(|inbox| inbox.resize = Some(workers));
        Ok(())
    }

    /// Counts and times up to now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Why it broke, if it did: workers that could not be started, an initializer that failed again and again.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.shared.inbox().broken.clone()
    }

    /// Options for one task, or for one map: time-outs, tries, priority, key, and more.
    pub fn task<F>(&self, function: F) -> TaskOptions<'_, F> {
        TaskOptions::new(self, function)
    }

    /// Runs `function` with `args` in a worker and waits for its result, for as long as it takes: see
    /// [`TaskOptions::timeout`]. The death of its worker is its error; that of another worker is nothing.
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn apply<F, Args>(&self, function: F, args: Args) -> Result<F::Output, TaskError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).apply(args)
    }

    /// Has `function` run with `args` in a worker. Does not wait, unless the pool's queue is [limited](Builder::queue_limit) and full;
    /// whatever fails is in the result.
    #[doc(alias = "submit")]
    pub fn apply_async<F, Args>(&self, function: F, args: Args) -> AsyncResult<F::Output>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).apply_async(args)
    }

    /// As [`apply_async`](Pool::apply_async), and calls `callback` with what the task returned, or `error_callback` with what went
    /// wrong, on a thread of the pool. A callback that panics harms nobody; one that blocks delays the others.
    pub fn apply_async_with<F, Args>(
        &self,
        function: F,
        args: Args,
        callback: impl FnOnce(F::Output) + Send + 'static,
        error_callback: impl FnOnce(TaskError) + Send + 'static,
    ) where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).apply_async_with(args, callback, error_callback);
    }

    /// Calls `function` with each of `items`, and waits; gives what it returned, in order. All items are taken at once, and all results are
    /// kept: for very many see [`imap`](Pool::imap).
    ///
    /// Items go to the workers many at a time, cut by how long they take, and each has an outcome of its own all the same: a worker that
    /// dies costs the item that ran in it, what it has returned is there, what it has not begun runs elsewhere. See
    /// [`chunk_size`](TaskOptions::chunk_size).
    ///
    /// # Errors
    ///
    /// The first error that comes in. Items that have not started by then are cancelled, those that run run on; see
    /// [`try_map`](Pool::try_map).
    pub fn map<F, T>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).map(items)
    }

    /// As [`map`](Pool::map), with a result of its own for each item. Waits for all of them.
    pub fn try_map<F, T>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Vec<Result<F::Output, TaskError>>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).try_map(items)
    }

    /// As [`map`](Pool::map), where each item is the whole tuple of arguments.
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn starmap<F, Args>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).starmap(items)
    }

    /// As [`map`](Pool::map), but does not wait. All `items` are taken at once. Cancelling the result cancels all that is not done.
    pub fn map_async<F, T>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> AsyncResult<Vec<F::Output>>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).map_async(items)
    }

    /// As [`starmap`](Pool::starmap), but does not wait; see [`map_async`](Pool::map_async).
    pub fn starmap_async<F, Args>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> AsyncResult<Vec<F::Output>>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).starmap_async(items)
    }

    /// Calls `function` with each of `items`; gives what it returned as it comes in, in any order.
    ///
    /// Items are taken from the iterator only as results are asked for, four for each worker ahead: an endless iterator runs in flat
    /// memory. Each item goes alone; small ones are faster in [chunks](TaskOptions::chunk_size). Asking for the next result waits for one; a
    /// worker's death is the error of the item that ran there.
    pub fn imap_unordered<F, T, I>(&self, function: F, items: I) -> Imap<'_, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).imap_unordered(items)
    }

    /// As [`imap_unordered`](Pool::imap_unordered), in the order of the items. One that takes long holds up those behind it, of which no more are
    /// taken meanwhile.
    pub fn imap<F, T, I>(&self, function: F, items: I) -> Imap<'_, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.task(function).imap(items)
    }

    /// Runs `function` with `args` once in each worker, behind what waits there, and waits for all; gives the results in the order of the workers.
    ///
    /// For what changes a worker: to load something, to drop a cache. One that dies meanwhile is replaced and has not run it; a worker
    /// that starts later has not either: what every worker needs is for the [initializer](Builder::initializer).
    #[doc(alias = "everywhere")]
    pub fn broadcast<F, Args>(&self, function: F, args: &Args) -> Vec<Result<F::Output, TaskError>>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let (sink, receiver) = ToStream::new();
        let workers = self.workers();
        for worker in 0..workers {
            let receipt = Receipt::new(Arc::clone(&sink) as Arc<dyn Sink>, worker);
            let Some(function) = Function::of::<F, Args>(function) else {
                receipt.settle(Err(TaskError::UnknownFunction));
                continue;
            };
            match Item::of(args, receipt) {
                Ok(item) => {
                    let terms = Terms { place: Place::Seat(worker), ..(*self.terms).clone() };
                    self.shared.submit(Job::new(function, Arc::new(terms), [item]));
                }
                Err((error, receipt)) => receipt.settle(Err(TaskError::Encode(error))),
            }
        }
        let mut found: Vec<_> = (0..workers).map(|_| Err(TaskError::Cancelled)).collect();
        for (worker, result) in receiver.iter().take(workers) {
            found[worker] = crate::async_result::decode(result);
        }
        found
    }

    /// Takes no more tasks. Those that were submitted are still run.
    pub fn close(&self) {
        self.shared.close(false);
    }

    /// Ends the workers at once: tasks that are not done end with [`TaskError::Cancelled`].
    pub fn terminate(&self) {
        self.shared.close(true);
    }

    /// Waits until every task is done and the workers have ended, and says how it went. [`close`](Pool::close) or
    /// [`terminate`](Pool::terminate) it first.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] at once, with the pool, when neither was done: waiting would never end.
    pub fn join(mut self) -> Result<Summary, NotClosed> {
        let inbox = self.shared.inbox();
        let ends = inbox.closed || inbox.terminated || inbox.broken.is_some();
        drop(inbox);
        if !ends {
            return Err(NotClosed(self));
        }
        self.finish();
        Ok(Summary { unread_errors: self.shared.unread_errors(), stats: self.stats() })
    }

    fn finish(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            // A pool that is dropped by a waker, in the keeper itself, ends behind it.
            if keeper.thread().id() == thread::current().id() {
                return;
            }
            // It does not panic; if it did, the panic was printed.
            let _ = keeper.join();
        }
        self.callbacks.finish();
        self.shared.stop_observing();
        // A pool that is dropped by one of its subscribers cannot wait for it.
        if let Some(events) =
            self.events.take().filter(|events| events.thread().id() != thread::current().id())
        {
            let _ = events.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
        self.finish();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl fmt::Debug for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotClosed").field(&self.0).finish()
    }
}

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "joining a pool that still takes tasks would never end: call `close` or `terminate` first",
        )
    }
}

impl error::Error for NotClosed {}

/// What the system refused while a pool was made.
impl From<PoolError> for io::Error {
    fn from(error: PoolError) -> io::Error {
        io::Error::other(error)
    }
}
