//! How fast a turn goes to another process and comes back.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours};

pub(super) const ROW: Row = Row {
    name: "hand-over",
    title: "Hand-over and back",
    what: "A turn is handed to another process and comes back. Each has a core of its own.",
    unit: Unit::Time,
    place: Place::Apart,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Semaphore", "futex", ours::hand_over::semaphore),
        C::ours("Event", "futex", ours::hand_over::event),
        C::ours("Condition", "futex", ours::hand_over::condition),
        C::limit("futex", limit::futex::sleeping),
        C::limit("futex, spinning first", limit::futex::spinning),
    ],
};
