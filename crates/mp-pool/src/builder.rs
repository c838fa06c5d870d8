//! What a pool shall be like.

use crate::error::PoolError;
use crate::pool::Pool;
use crate::seat::Recipe;
use crate::worker::Initializer;
use mp_core::wire;
use mp_process::{Process, SpawnError, Task, cpu_count, routine::Routine};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(200);

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
    memory_limit: Option<u64>,
    task_timeout: Option<Duration>,
    grace: Duration,
    initializer: Result<Initializer, SpawnError>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            workers: cpu_count(),
            memory_limit: None,
            task_timeout: None,
            grace: GRACE,
            initializer: Ok(None),
        }
    }
}

impl Builder {
    /// How many worker processes; by default as many as processors may be used.
    #[doc(alias = "processes")]
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// How many bytes of private memory a worker may have. A task that allocates more ends with
    /// [`Cause::Memory`](crate::Cause::Memory), its worker is replaced.
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.memory_limit = Some(bytes);
        self
    }

    /// How long a task may run before its worker is killed and it ends with
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). Time in the queue does not count.
    pub fn task_timeout(mut self, timeout: Duration) -> Builder {
        self.task_timeout = Some(timeout);
        self
    }

    /// How long a worker whose task ran past its time-out may take to end after SIGTERM, before SIGKILL ends it; by default 200 ms.
    /// Zero sends SIGKILL at once.
    pub fn grace(mut self, grace: Duration) -> Builder {
        self.grace = grace;
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
        let mut process = Process::builder().name("PoolWorker");
        if let Some(bytes) = self.memory_limit {
            process = process.memory_limit(bytes);
        }
        let recipe = Recipe { process, initializer: self.initializer?, grace: self.grace };
        Pool::start(self.workers, recipe, self.task_timeout)
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
