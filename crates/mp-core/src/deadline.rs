//! A point in time that a whole operation keeps, however often it is interrupted.

use std::time::{Duration, Instant};

/// The longest sleep after which the truth is read again: a wake can be lost to its sender's death.
pub const SLICE: Duration = Duration::from_millis(100);

/// The longest slice where the docs promise no bound on how soon a death is noticed.
pub const LONG_SLICE: Duration = Duration::from_secs(1);

/// When an operation gives up. Monotonic; `Duration::MAX` and anything past the clock's end mean never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for ever.
    pub const NEVER: Deadline = Deadline(None);

    /// Gives up `timeout` from now; a time-out of zero polls once.
    #[must_use]
    pub fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// Gives up at `instant`.
    #[must_use]
    pub const fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// `None` waits for ever.
    #[must_use]
    pub fn after_option(timeout: Option<Duration>) -> Deadline {
        timeout.map_or(Deadline::NEVER, Deadline::after)
    }

    /// Whether the time is over.
    #[must_use]
    pub fn passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// What is left, `None` for ever; zero once it has passed.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// How long to sleep now: at most `slice`, at most what is left.
    #[must_use]
    pub fn slice(self, slice: Duration) -> Duration {
        self.left().map_or(slice, |left| left.min(slice))
    }

    /// The instant, unless it is never.
    #[must_use]
    pub const fn instant(self) -> Option<Instant> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_out_is_never() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert!(!Deadline::NEVER.passed());
        assert_eq!(Deadline::NEVER.slice(SLICE), SLICE);
    }

    #[test]
    fn zero_has_passed_at_once() {
        assert!(Deadline::after(Duration::ZERO).passed());
        assert_eq!(Deadline::after(Duration::ZERO).left(), Some(Duration::ZERO));
    }
}
