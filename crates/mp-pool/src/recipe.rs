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
            memory: self.memory.map(lowered),
            jitter: self.jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_lowered_by_the_jitter_at_most() {
        let age = Duration::from_secs(1000);
        let recycle = Recycle { tasks: Some(1000), age: Some(age), memory: Some(1 << 30), jitter: 250 };
        let limits: Vec<Recycle> = (0..1000).map(|noise| recycle.of_one(noise)).collect();
        assert!(limits.iter().all(|one| one.tasks >= Some(750) && one.tasks <= Some(1000)));
        assert!(limits.iter().all(|one| one.age >= Some(age * 3 / 4) && one.age <= Some(age)));
        assert!(limits.iter().all(|one| one.memory >= Some(3 << 28) && one.memory <= Some(1 << 30)));
        let mut tasks: Vec<_> = limits.iter().map(|one| one.tasks).collect();
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!(tasks.len(), 251);
        let exact = Recycle { jitter: 0, ..recycle };
        assert!((0..100).all(|noise| exact.of_one(noise).memory == Some(1 << 30)));
    }
}
