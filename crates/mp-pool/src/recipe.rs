//! What each worker of a pool is started with, and when it is replaced.

use crate::worker::Initializer;
use mp_process::Builder;
use std::time::Duration;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) process: Builder,
    pub(crate) initializer: Initializer,
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    /// How long a worker may take until it is ready.
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) recycle: Recycle,
    pub(crate) capture_stdout: bool,
    /// Each worker gets a processor of its own, as far as there are enough.
    pub(crate) pinned: Vec<usize>,
}

/// When a worker is replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recycle {
    pub(crate) tasks: Option<u32>,
    pub(crate) age: Option<Duration>,
    /// Bytes of resident memory.
    pub(crate) memory: Option<u64>,
    /// By so many thousandths each worker's limits are lowered at random.
    pub(crate) jitter: u32,
}

impl Recycle {
    /// Limits for one worker, lowered by the jitter.
    pub(crate) fn of_one(self, noise: u64) -> Recycle {
        let less = noise % u64::from(self.jitter + 1);
        let lowered = |limit: u64| limit - limit / 1000 * less - limit % 1000 * less / 1000;
        Recycle {
            tasks: self.tasks.map(|tasks| u32::try_from(lowered(tasks.into())).unwrap_or(tasks).max(1)),
            age: self.age.map(|age| age.mul_f64(1.0 - less as f64 / 1000.0)),
            ..self
        }
    }
}
