//! What it costs to wait.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "waiting",
    title: "Waiting for a second",
    what: "One side waits without a time-out until, a second later, another process wakes it. Shown is the CPU time of the side that waits. Each has a core of its own.",
    unit: Unit::Time,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("pipe()", "futex", ours::waiting::pipe_recv),
        C::ours("Queue", "futex", ours::waiting::queue_get),
        C::ours("Semaphore", "futex", ours::waiting::semaphore_acquire),
        C::ours("Event", "futex", ours::waiting::event_wait),
        C::limit("futex", limit::futex::waiting),
        C::peer("pipe of the kernel", peers::kernel::pipe_waiting),
    ],
};
