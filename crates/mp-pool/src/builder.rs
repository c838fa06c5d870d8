//! What a pool shall be like.

use crate::error::PoolError;
use crate::pool::{Plan, Pool};
use crate::posts::Staff;
use crate::recipe::{Recipe, Recycle};
use crate::retry::Retry;
use crate::room::Most;
use crate::terms::Terms;
use crate::worker::Initializer;
use mp_core::wire;
use mp_process::{Limit, Process, Resource, SpawnError, StartMethod, Task, cpu_count, routine::Routine};
use serde::{Serialize, de::DeserializeOwned};
use signal_hook::SigId;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, io};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(200);
/// How long a worker takes at most until it is ready.
const START: Duration = Duration::from_secs(60);
/// How long a worker is idle before it goes, where some may.
const IDLE: Duration = Duration::from_secs(30);
const UNLIMITED: Most = Most { tasks: usize::MAX, bytes: usize::MAX };

/// How deep pools are nested in workers of pools, as their processes are told.
const DEPTH: &str = "MP_POOL_DEPTH";
const MOST_DEPTH: u32 = 8;

/// Options of a pool; made by [`Pool::builder`].
///
/// ```no_run
/// use std::time::Duration;
///
/// let pool = mp_pool::Pool::builder().workers(4).memory_limit(512 << 20).task_timeout(Duration::from_secs(30)).build()?;
/// # Ok::<(), mp_pool::PoolError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Builder {
    workers: usize,
    least: Option<usize>,
    idle: Duration,
    process: mp_process::Builder,
    terms: Terms,
    grace: Duration,
    start_timeout: Option<Duration>,
    recycle: Recycle,
    capture_stdout: bool,
    pin: bool,
    most: Most,
    trace: Option<PathBuf>,
    ctrl_c: bool,
    inline: bool,
    max_depth: u32,
    /// A number that was zero.
    zero: Option<&'static str>,
    initializer: Result<Initializer, SpawnError>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            workers: cpu_count(),
            least: None,
            idle: IDLE,
            process: Process::builder().name("PoolWorker"),
            terms: Terms::default(),
            grace: GRACE,
            start_timeout: None,
            recycle: Recycle::default(),
            capture_stdout: false,
            pin: false,
            most: UNLIMITED,
            trace: None,
            ctrl_c: false,
            inline: false,
            max_depth: MOST_DEPTH,
            zero: None,
            initializer: Ok(None),
        }
    }
}

impl Builder {
    /// How many worker processes; by default as many as processors may be used.
    #[doc(alias = "processes")]
    #[doc(alias = "max_workers")]
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Starts with so few workers, may be none, and more only as there is work for them. Those that are idle for
    /// [long](Builder::idle_timeout) end again, down to this number.
    pub fn min_workers(mut self, workers: usize) -> Builder {
        self.least = Some(workers);
        self
    }

    /// How long a worker is idle before it ends, where there are more than [`min_workers`](Builder::min_workers); by default 30 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Builder {
        self.idle = timeout;
        self
    }

    /// How the workers are started.
    pub fn start_method(mut self, method: StartMethod) -> Builder {
        self.process = self.process.start_method(method);
        self
    }

    /// How many bytes of private memory a worker may have. A task that allocates more ends with
    /// [`Cause::Memory`](crate::Cause::Memory), its worker is replaced.
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.process = self.process.memory_limit(bytes);
        self
    }

    /// How many seconds of processor time a worker may use in its life. The task that uses them up ends with
    /// [`Cause::CpuTime`](crate::Cause::CpuTime), its worker is replaced.
    pub fn cpu_time_limit(mut self, seconds: u64) -> Builder {
        self.process = self.process.limit(Resource::CpuTime, Limit::new(seconds, seconds.saturating_add(1)));
        self
    }

    /// Any other limit of the system for each worker. One on the size of files holds for shared memory as well, its line to the pool
    /// included: below some gigabytes workers do not start.
    pub fn limit(mut self, resource: Resource, limit: impl Into<Limit>) -> Builder {
        self.process = self.process.limit(resource, limit);
        self
    }

    /// Which processors the workers may run on.
    pub fn cpu_affinity(mut self, cpus: impl IntoIterator<Item = usize>) -> Builder {
        self.process = self.process.cpu_affinity(cpus);
        self
    }

    /// Binds each worker to one processor of those that this process may use, in turn.
    pub fn pin_workers(mut self, pin: bool) -> Builder {
        self.pin = pin;
        self
    }

    /// By how much the workers give way to others, as of `nice`.
    pub fn nice(mut self, nice: i32) -> Builder {
        self.process = self.process.nice(nice);
        self
    }

    /// A variable in the environment of each worker.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        self.process = self.process.env(name, value);
        self
    }

    /// The working directory of each worker.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Builder {
        self.process = self.process.current_dir(dir);
        self
    }

    /// How long a task may run before its worker is killed and it ends with
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). Time in the queue does not count.
    pub fn task_timeout(mut self, timeout: Duration) -> Builder {
        self.terms.timeout = Some(timeout);
        self
    }

    /// How tasks are tried again that do not say it [themselves](crate::TaskOptions::retry).
    pub fn retry(mut self, retry: Retry) -> Builder {
        self.terms.retry = retry;
        self
    }

    /// How long a worker whose task ran past its time-out may take to end after SIGTERM, before SIGKILL ends it; by default 200 ms.
    /// Zero sends SIGKILL at once. A task that is cancelled has as long to stop by itself before SIGTERM.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = grace;
        self
    }

    /// How long a worker may take until it is ready, its initializer included; then it is killed and counts as failed. By default a minute,
    /// and without limit where there is an [initializer](Builder::initializer).
    pub fn start_timeout(mut self, timeout: Duration) -> Builder {
        self.process = self.process.handshake_timeout(timeout);
        self.start_timeout = Some(timeout);
        self
    }

    /// Replaces a worker that has run so many tasks (items of maps, each), at least 1. Its successor starts while it is still busy.
    #[doc(alias = "maxtasksperchild")]
    pub fn max_tasks_per_child(mut self, tasks: u32) -> Builder {
        self.recycle.tasks = Some(tasks);
        self.zero = self.zero.or((tasks == 0).then_some("max_tasks_per_child"));
        self
    }

    /// Replaces a worker that is so old. It works on until its successor is ready, and what it has begun until it is done.
    pub fn max_age(mut self, age: Duration) -> Builder {
        self.recycle.age = Some(age);
        self.zero = self.zero.or(age.is_zero().then_some("max_age"));
        self
    }

    /// Replaces a worker whose resident memory, in bytes, is larger than this after a task: for tasks that leak. It works on until its
    /// successor is ready; nothing is killed, for that see [`memory_limit`](Builder::memory_limit).
    pub fn max_memory(mut self, bytes: u64) -> Builder {
        self.recycle.memory = Some(bytes);
        self.zero = self.zero.or((bytes == 0).then_some("max_memory"));
        self
    }

    /// Lowers the limits on tasks, age and memory for each worker by up to this share at random (0.1: a tenth), so that workers that started
    /// together are not replaced together. By default 0.
    pub fn recycle_jitter(mut self, share: f64) -> Builder {
        // The larger thousandth that is not beyond it; nothing for what is no number.
        self.recycle.jitter =
            (0..=1000).rev().find(|thousandths| f64::from(*thousandths) <= share * 1000.0).unwrap_or(0);
        self
    }

    /// Passes the workers' standard output on as their standard error is, and keeps the end of it for the
    /// [report](crate::Report) of a death. By default it is this process's own.
    ///
    /// The pool never waits for whoever reads this process's output: of a worker that ends while nobody takes it, what its pipe still
    /// held, at most 64 KiB, is kept for the report and not passed on.
    pub fn capture_stdout(mut self, capture: bool) -> Builder {
        self.capture_stdout = capture;
        self
    }

    /// How many tasks that are not done the pool holds, at least 1: who submits more waits until others are done. By default without
    /// limit; [`imap`](crate::Pool::imap) is limited by itself.
    pub fn queue_limit(mut self, tasks: usize) -> Builder {
        self.most.tasks = tasks;
        self.zero = self.zero.or((tasks == 0).then_some("queue_limit"));
        self
    }

    /// How many bytes of arguments of tasks that are not done the pool holds: who submits more waits. What is larger than this goes
    /// alone. By default without limit.
    pub fn queue_bytes(mut self, bytes: usize) -> Builder {
        self.most.bytes = bytes;
        self
    }

    /// Writes who ran what when into a file, for <https://ui.perfetto.dev> or `chrome://tracing`; complete once the pool has ended.
    pub fn trace_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.trace = Some(path.into());
        self
    }

    /// Handles Ctrl-C: once, and the pool closes, what runs ends in peace and what waits is cancelled; twice, and all is terminated. By
    /// default no signal handler is installed, and Ctrl-C ends this process, and with it the workers. With it the handler stays when the
    /// pool has ended: Ctrl-C does nothing then, unless the program handles it.
    pub fn ctrl_c(mut self, handle: bool) -> Builder {
        self.ctrl_c = handle;
        self
    }

    /// Starts no workers: each task runs in this process, in the thread that submits it, before its submission returns. For
    /// debugging: breakpoints and prints work, but nothing is isolated and no limit holds.
    pub fn inline(mut self) -> Builder {
        self.inline = true;
        self
    }

    /// How deep pools may be nested in workers of pools; by default 8. A task that makes the pool that runs it then fails, instead of
    /// filling the machine.
    pub fn max_depth(mut self, depth: u32) -> Builder {
        self.max_depth = depth;
        self
    }

    /// A function that each worker runs before its first task; what it returns is dropped, so a failure is a panic. When it fails in
    /// worker after worker, the pool breaks: every task ends with [`TaskError::Broken`](crate::TaskError::Broken).
    pub fn initializer<F, Args>(mut self, function: F, args: Args) -> Builder
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.initializer = encode(function, &args).map(Some);
        self
    }

    /// Makes the pool: starts its workers.
    ///
    /// # Errors
    ///
    /// See [`PoolError`]; nothing is left running then.
    pub fn build(self) -> Result<Pool, PoolError> {
        if self.workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        if let Some(what) = self.zero {
            return Err(PoolError::Zero(what));
        }
        let depth = env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()).unwrap_or(0_u32);
        if depth >= self.max_depth {
            return Err(PoolError::TooDeep(depth));
        }
        let initializer = self.initializer?;
        let recipe = Recipe {
            process: self.process.env(DEPTH, (depth + 1).to_string()),
            start_timeout: self.start_timeout.or(initializer.is_none().then_some(START)),
            initializer,
            grace: self.grace,
            recycle: self.recycle,
            capture_stdout: self.capture_stdout,
            pinned: if self.pin { processors() } else { Vec::new() },
        };
        let staff = Staff {
            least: self.least.unwrap_or(self.workers).min(self.workers),
            idle: self.least.map(|_| self.idle),
        };
        Pool::start(Plan {
            workers: self.workers,
            recipe,
            staff,
            terms: self.terms,
            most: (self.most != UNLIMITED).then_some(self.most),
            trace: self.trace,
            interrupts: self.ctrl_c.then(Interrupts::new).transpose()?,
            inline: self.inline,
        })
    }
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
        .unwrap_or_default()
}

/// A byte for each Ctrl-C.
#[derive(Debug)]
pub(crate) struct Interrupts {
    reader: UnixStream,
    id: SigId,
}

impl Interrupts {
    fn new() -> io::Result<Interrupts> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let id = signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, writer)?;
        Ok(Interrupts { reader, id })
    }

    /// Takes one of them.
    pub(crate) fn take(&self) {
        // What is not read now is another interrupt.
        let _ = rustix::io::read(&self.reader, &mut [0; 1]);
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}

/// An initializer is kept as bytes, for workers that are started later; so handles cannot be among its arguments.
fn encode<F, Args>(function: F, args: &Args) -> Result<(Routine, u8, Vec<u8>), SpawnError>
where
    F: Task<Args>,
    Args: Serialize + DeserializeOwned + 'static,
    F::Output: Serialize + 'static,
{
    let routine = Routine::of::<F, Args>(function).ok_or(SpawnError::NoImage)?;
    let mut scratch = Vec::new();
    let message = wire::encode(args, &mut scratch).map_err(SpawnError::Encode)?;
    if !message.handles.is_empty() {
        return Err(SpawnError::Refused("an initializer's arguments cannot hold handles".into()));
    }
    Ok((routine, message.encoding.0, message.bytes.to_vec()))
}
