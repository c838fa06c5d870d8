//! What a task is submitted with, beside function and arguments.

use crate::retry::Retry;
use std::time::{Duration, Instant};

/// Where a task may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Anywhere,
    /// All tasks with one key run in one worker, as long as it lives and the pool keeps its size.
    Key(u64),
    /// In the worker of this seat.
    Seat(usize),
}

impl Place {
    /// The seat it is bound to, in a pool of so many.
    pub(crate) fn seat(self, seats: usize) -> Option<usize> {
        match self {
            Place::Anywhere => None,
            // The seat with the highest score: when the pool grows or shrinks, few keys move.
            Place::Key(key) => (0..seats).max_by_key(|seat| mixed(key ^ mixed(*seat as u64 + 1))),
            Place::Seat(seat) => (seat < seats).then_some(seat),
        }
    }
}

/// Splitmix's finaliser: each bit of the input moves each bit of the output.
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) timeout: Option<Duration>,
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) retry: Retry,
    pub(crate) priority: i32,
    pub(crate) place: Place,
}

impl Terms {
    /// Until when a job that is submitted now must have started.
    pub(crate) fn start_by(&self) -> Option<Instant> {
        let queue = self.queue_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        [queue, self.deadline].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_move_when_a_seat_is_added() {
        let seat = |key, seats| Place::Key(key).seat(seats).unwrap();
        let moved = (0..1000).filter(|key| seat(*key, 4) != seat(*key, 5)).count();
        assert!((100..300).contains(&moved), "{moved} of 1000 moved");
        let first = (0..1000).filter(|key| seat(*key, 4) == 0).count();
        assert!((150..350).contains(&first), "{first} of 1000 on the first");
        assert_eq!(Place::Seat(3).seat(3), None);
    }
}
