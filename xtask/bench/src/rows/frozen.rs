//! How fast a gigabyte gets from one process to another.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours};

/// One GiB of them.
pub(crate) const WORDS: usize = 1 << 27;

/// What the sender does with the memory.
pub(crate) fn filled(words: &mut [u64]) {
    for (number, word) in (0..).zip(words) {
        *word = number;
    }
}

/// What the receiver does with it.
pub(crate) fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

pub(super) const ROW: Row = Row {
    name: "frozen-1gib",
    title: "A transfer of 1 GiB in memory",
    what: "One process writes 1 GiB of numbers into new memory; another gets the memory, adds all of them and answers.",
    unit: Unit::Time,
    place: Place::Apart,
    batch: Duration::from_millis(4),
    most_ops: 1,
    contestants: &[
        C::ours("Frozen", "bare memfd", ours::memory::transfer),
        C::limit("bare memfd", limit::memory::transfer),
    ],
};
