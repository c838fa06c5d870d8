//! Median, best and spread of many batches.

use serde::Serialize;

/// What is told of all batches of a contestant, in nanoseconds of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) best: f64,
    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) spread: f64,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(batches: &[f64]) -> Option<Self> {
        let mut sorted = batches.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (best, median) = (*sorted.first()?, quantile(&sorted, 0.5));
        let spread = (quantile(&sorted, 0.75) - quantile(&sorted, 0.25)) / 2.0 / median;
        Some(Self { median, best, spread })
    }
}

/// Between the two nearest of the sorted values, which are not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_a_few() {
        let summary = Summary::of(&[5.0, 1.0, 3.0, 2.0, 4.0]).expect("not empty");
        assert_eq!(summary, Summary { median: 3.0, best: 1.0, spread: 1.0 / 3.0 });
        assert_eq!(Summary::of(&[2.0, 4.0]).map(|summary| summary.median), Some(3.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
