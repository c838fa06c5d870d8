//! What it costs to wait where the other has no core of its own.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "waiting-one-core",
    title: "Waiting for a second, both on one core",
    what: "One side waits without a time-out until, a second later, another process wakes it. Shown is the CPU time of the side that waits. Both are on the same core.",
    unit: Unit::Time,
    place: Place::Together,
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
