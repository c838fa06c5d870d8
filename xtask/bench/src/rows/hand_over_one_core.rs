//! The same where only one can run at a time.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours};

pub(super) const ROW: Row = Row {
    name: "hand-over-one-core",
    title: "Hand-over and back, both on one core",
    what: "A turn is handed to another process and comes back, both on the same core.",
    unit: Unit::Time,
    place: Place::Together,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Semaphore", "futex", ours::hand_over::semaphore),
        C::ours("Event", "futex", ours::hand_over::event),
        C::ours("Condition", "futex", ours::hand_over::condition),
        C::limit("futex", limit::futex::sleeping),
    ],
};
