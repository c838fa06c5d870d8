//! What the tasks of the pool rows do.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::contestant::Measured;

/// How long a busy task works.
pub(crate) const TASK: Duration = Duration::from_micros(100);

/// Works for [`TASK`] of its own processor's time: a worker that is put off the core in the middle has as much left to do.
pub(crate) fn busy(argument: u64) -> u64 {
    let used = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let until = used() + TASK;
    while used() < until {}
    argument
}

/// Every task's result is its number, in order.
pub(crate) fn check(results: &[u64]) -> Measured {
    if (0..).zip(results).all(|(number, result)| number == *result) {
        Ok(())
    } else {
        Err("a wrong result".into())
    }
}
