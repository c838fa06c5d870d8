//! Whether and when a task that has failed is tried again.

use crate::error::TaskError;
use std::time::Duration;

/// How often a task is tried again, after which failures, and with what pauses.
///
/// ```
/// use mp_pool::Retry;
/// use std::time::Duration;
///
/// let retry = Retry::times(3).backoff(Duration::from_millis(50)).after_timeouts();
/// # let _ = retry;
/// ```
///
/// A task that is tried again has run before, in part or whole: only what may run twice should be. A worker's death is always a
/// reason; time-outs and panics are when asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Retry {
    times: u32,
    backoff: Duration,
    longest: Duration,
    timeouts: bool,
    panics: bool,
}

impl Retry {
    /// Tries again at most `times` times: so many runs and one.
    pub const fn times(times: u32) -> Retry {
        let (backoff, longest) = (Duration::ZERO, Duration::from_secs(60));
        Retry { times, backoff, longest, timeouts: false, panics: false }
    }

    /// The pause before the second try. It doubles with each further one, up to a minute, and varies by a quarter, so that tasks
    /// that failed together do not come back together. By default there is none.
    pub const fn backoff(mut self, pause: Duration) -> Retry {
        self.backoff = pause;
        self
    }

    /// The longest pause; by default a minute.
    pub const fn longest_backoff(mut self, pause: Duration) -> Retry {
        self.longest = pause;
        self
    }

    /// Also after time-outs.
    pub const fn after_timeouts(mut self) -> Retry {
        self.timeouts = true;
        self
    }

    /// Also after panics.
    pub const fn after_panics(mut self) -> Retry {
        self.panics = true;
        self
    }

    /// The pause before the next try of a task that has failed `failures` times, now with `error`; `None` when that was its last.
    pub(crate) fn next(&self, failures: usize, error: &TaskError, noise: u64) -> Option<Duration> {
        let counts = match error {
            TaskError::WorkerDied { .. } => true,
            TaskError::TimedOut => self.timeouts,
            TaskError::Panicked(_) => self.panics,
            _ => false,
        };
        let failures = u32::try_from(failures).unwrap_or(u32::MAX);
        if !counts || failures > self.times {
            return None;
        }
        let doubled = self.backoff.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let pause = doubled.min(self.longest);
        // Between three and five quarters.
        let quarters = u32::try_from(noise % 1024).unwrap_or(0);
        Some(pause.saturating_mul(768 + quarters / 2) / 1024)
    }

    /// Whether there is a second try at all.
    pub(crate) const fn is_some(&self) -> bool {
        self.times > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry =
            Retry::times(3).backoff(Duration::from_millis(100)).longest_backoff(Duration::from_millis(250));
        let pause = |failures| retry.next(failures, &died(), 512);
        assert_eq!(pause(1), Some(Duration::from_millis(100)));
        assert_eq!(pause(2), Some(Duration::from_millis(200)));
        assert_eq!(pause(3), Some(Duration::from_millis(250)));
        assert_eq!(pause(4), None);
        assert_eq!(retry.next(1, &TaskError::TimedOut, 0), None);
        assert!(retry.after_timeouts().next(1, &TaskError::TimedOut, 0).is_some());
        assert_eq!(Retry::default().next(1, &died(), 0), None);
    }

    fn died() -> TaskError {
        TaskError::WorkerDied { cause: crate::Cause::Exit(1), report: Box::default() }
    }
}
