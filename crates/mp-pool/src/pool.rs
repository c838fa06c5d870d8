//! The pool as its users see it.

use crate::async_result::{AsyncResult, decode};
use crate::builder::Builder;
use crate::error::{PoolError, TaskError};
use crate::inbox::Shared;
use crate::job::{Item, Job, Raw, Receipt, Sink, Unwanted};
use crate::owner::Owner;
use crate::seat::{Recipe, Seat};
use mp_process::{Task, routine::Routine};
use serde::{Serialize, de::DeserializeOwned};
use std::panic::{self, AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{error, fmt, io};

/// What a job is submitted with, beside function and arguments.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) timeout: Option<Duration>,
    pub(crate) unwanted: Option<Unwanted>,
}

/// A callback, ready to run.
type Callback = Box<dyn FnOnce() + Send>;

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
/// A task that has started is never run again. Dropping the pool terminates it, as the end of Python's `with` block does.
#[doc(alias = "multiprocessing.Pool")]
#[doc(alias = "ProcessPoolExecutor")]
pub struct Pool {
    shared: Arc<Shared>,
    workers: usize,
    task_timeout: Option<Duration>,
    owner: Option<JoinHandle<()>>,
    callbacks: Mutex<Option<(Sender<Callback>, JoinHandle<()>)>>,
}

/// A panic elsewhere leaves the pool whole: its state is its owner's alone.
impl UnwindSafe for Pool {}
impl RefUnwindSafe for Pool {}

/// The pool takes tasks still: close or terminate it before joining. It comes back in this error.
pub struct NotClosed(pub Pool);

impl Pool {
    /// Makes a pool of `workers` processes.
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

    pub(crate) fn start(
        workers: usize,
        recipe: Recipe,
        task_timeout: Option<Duration>,
    ) -> Result<Pool, PoolError> {
        let shared = Arc::new(Shared::new()?);
        let seats = (0..workers).map(|_| Seat::start(&recipe)).collect::<Result<Vec<_>, _>>()?;
        let owner = Owner::new(Arc::clone(&shared), recipe, seats);
        let owner = thread::Builder::new().name("mp-pool".into()).spawn(move || owner.run())?;
        Ok(Pool { shared, workers, task_timeout, owner: Some(owner), callbacks: Mutex::new(None) })
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Why it broke, if it did: workers that could not be started, an initializer that failed again and again.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.shared.inbox().broken.clone()
    }

    /// Options for one task: a time-out of its own.
    pub fn task<F>(&self, function: F) -> TaskOptions<'_, F> {
        TaskOptions { pool: self, function, timeout: self.task_timeout }
    }

    /// Runs `function` with `args` in a worker and waits for its result.
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
        self.apply_async(function, args).get()
    }

    /// Has `function` run with `args` in a worker. Does not wait; whatever fails is in the result.
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
        let call = move |result| match decode::<F::Output>(result) {
            Ok(value) => callback(value),
            Err(error) => error_callback(error),
        };
        let sink = ToCallback { runner: self.callback_runner(), call: Box::new(call) };
        let options = Options { timeout: self.task_timeout, unwanted: None };
        self.submit_one::<F, Args>(function, &args, options, Receipt::new(sink));
    }

    pub(crate) fn submit_one<F, Args>(&self, function: F, args: &Args, options: Options, receipt: Receipt)
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let Some(routine) = Routine::of::<F, Args>(function) else {
            return receipt.settle(Err(TaskError::UnknownFunction));
        };
        let Options { timeout, unwanted } = options;
        match Item::new(args, receipt) {
            Ok(item) => self.submit(Job { routine, timeout, unwanted, items: [item].into() }),
            Err((error, receipt)) => receipt.settle(Err(TaskError::Encode(error))),
        }
    }

    /// Queues a job; when the pool takes none any more, its items say so.
    pub(crate) fn submit(&self, job: Job) {
        self.shared.submit(job);
    }

    /// Some jobs are not wanted any more: those that have not started need not.
    pub(crate) fn forget(&self, unwanted: &Unwanted) {
        unwanted.store(true, Relaxed);
        self.shared.tell(|inbox| inbox.unwanted = true);
    }

    pub(crate) fn default_timeout(&self) -> Option<Duration> {
        self.task_timeout
    }

    fn callback_runner(&self) -> Option<Sender<Callback>> {
        let mut callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        if callbacks.is_none() {
            let (sender, receiver) = mpsc::channel::<Callback>();
            let run = move || {
                for callback in receiver {
                    // What it says was printed by the panic's hook.
                    let _ = panic::catch_unwind(AssertUnwindSafe(callback));
                }
            };
            // Without a thread left, callbacks are lost; the error is in nobody's hands.
            let thread = thread::Builder::new().name("mp-pool-callback".into()).spawn(run).ok()?;
            *callbacks = Some((sender, thread));
        }
        callbacks.as_ref().map(|(sender, _)| sender.clone())
    }

    /// Takes no more tasks. Those that were submitted are still run.
    pub fn close(&self) {
        self.shared.tell(|inbox| inbox.closed = true);
    }

    /// Ends the workers at once: tasks that are not done end with [`TaskError::Cancelled`].
    pub fn terminate(&self) {
        self.shared.tell(|inbox| inbox.terminated = true);
    }

    /// Waits until every task is done and the workers have ended. [`close`](Pool::close) or [`terminate`](Pool::terminate) it first.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] at once, with the pool, when neither was done: waiting would never end.
    pub fn join(mut self) -> Result<(), NotClosed> {
        let inbox = self.shared.inbox();
        let ends = inbox.closed || inbox.terminated || inbox.broken.is_some();
        drop(inbox);
        if !ends {
            return Err(NotClosed(self));
        }
        self.finish();
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(owner) = self.owner.take() {
            // It does not panic; if it did, the panic was printed.
            let _ = owner.join();
        }
        let callbacks = self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = callbacks {
            drop(sender);
            // A pool that is dropped inside of its own callback cannot wait for it.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.owner.is_some() {
            self.terminate();
            self.finish();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers).finish_non_exhaustive()
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

/// One task with options; made by [`Pool::task`].
#[derive(Debug)]
#[must_use]
pub struct TaskOptions<'a, F> {
    pool: &'a Pool,
    function: F,
    timeout: Option<Duration>,
}

impl<F> TaskOptions<'_, F> {
    /// How long it may run; its worker is killed then. Time in the queue does not count.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
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
        self.apply_async(args).get()
    }

    /// As [`Pool::apply_async`].
    pub fn apply_async<Args>(self, args: Args) -> AsyncResult<F::Output>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let (result, sink) = AsyncResult::new();
        let options = Options { timeout: self.timeout, unwanted: None };
        self.pool.submit_one::<F, Args>(self.function, &args, options, Receipt::new(sink));
        result
    }
}

/// Runs a callback on the pool's thread for them.
struct ToCallback {
    runner: Option<Sender<Callback>>,
    call: Box<dyn FnOnce(Result<Raw, TaskError>) + Send>,
}

impl Sink for ToCallback {
    fn settle(self: Box<Self>, result: Result<Raw, TaskError>) {
        let ToCallback { runner, call } = *self;
        if let Some(runner) = runner {
            // The thread lives as long as the pool, which settles everything before it ends.
            let _ = runner.send(Box::new(move || call(result)));
        }
    }
}

/// What the system refused while a pool was made.
impl From<PoolError> for io::Error {
    fn from(error: PoolError) -> io::Error {
        io::Error::other(error)
    }
}
