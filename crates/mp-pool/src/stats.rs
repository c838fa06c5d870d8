//! What a pool has done so far.

use crate::error::Cause;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often durations of about which length came: one bucket for each power of two of nanoseconds.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; 64],
    count: u64,
    total: u128,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [0; 64], count: 0, total: 0, longest: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.buckets[nanoseconds.checked_ilog2().unwrap_or(0) as usize] += 1;
        self.count += 1;
        self.total += u128::from(nanoseconds);
        self.longest = self.longest.max(nanoseconds);
    }

    /// So many durations of the same length.
    pub(crate) fn add_many(&mut self, nanoseconds: u64, count: u64) {
        self.buckets[nanoseconds.checked_ilog2().unwrap_or(0) as usize] += count;
        self.count += count;
        self.total += u128::from(nanoseconds) * u128::from(count);
        self.longest = self.longest.max(nanoseconds);
    }

    /// How many durations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; zero when there were none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.total / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// At least this share of them (from 0 to 1) was at most so long. Exact to a factor of two; zero when there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let mut left = share.clamp(0.0, 1.0) * self.count as f64;
        for (length, count) in self.buckets() {
            left -= count as f64;
            if left <= 0.0 {
                return length.min(self.longest());
            }
        }
        self.longest()
    }

    /// The buckets that are not empty: the durations in each are below this one, and not below its half.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let end = |power: u32| Duration::from_nanos(1_u64.checked_shl(power + 1).unwrap_or(u64::MAX));
        let all = (0_u32..).zip(self.buckets);
        all.filter(|(_, count)| *count > 0).map(move |(power, count)| (end(power), count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

/// Counts and times of a pool up to now; made by [`Pool::stats`](crate::Pool::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Workers that take tasks now.
    pub workers: usize,
    /// Tasks that wait here; not those at workers.
    pub queued: usize,
    /// Tasks that are at workers: running, or waiting there and taken back when need be.
    pub at_workers: usize,
    /// Tasks that returned.
    pub succeeded: u64,
    /// Tasks that ended in an error, of whatever kind.
    pub failed: u64,
    /// Tries again, each of them.
    pub retried: u64,
    /// Workers that were started, the first ones too.
    pub started: u64,
    /// Workers that died under a task or before they were ready, by cause.
    pub deaths: BTreeMap<String, u64>,
    /// Workers that were replaced because of their number of tasks, age or memory.
    pub recycled: u64,
    /// From submission to start. Items of a map that came back together count with the start of the first.
    pub wait: Histogram,
    /// From start to end. Items of a map that came back together count with their mean: the longest of many short ones is not told.
    pub run: Histogram,
}

impl Stats {
    pub(crate) fn died(&mut self, cause: &Cause) {
        *self.deaths.entry(cause.to_string()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_right_to_a_factor_of_two() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (Duration::ZERO, Duration::ZERO));
        (1..=1000).for_each(|microsecond| histogram.add(microsecond * 1000));
        let median = histogram.quantile(0.5).as_micros();
        assert!((500..=1000).contains(&median), "{median}");
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(1));
        assert_eq!((histogram.count(), histogram.mean().as_nanos()), (1000, 500_500));
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 1000);
        histogram.add(0);
        histogram.add(u64::MAX);
    }
}
