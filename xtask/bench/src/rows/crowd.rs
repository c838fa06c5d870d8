//! What becomes of round trips when there are more processes than cores.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::crowd;

pub(super) const ROW: Row = Row {
    name: "crowd",
    title: "Round trip of 8 bytes, more processes than cores",
    what: "8 bytes go to another process and come back; eight pairs of processes do so at the same time, wherever the scheduler puts them. An operation is a round trip of any pair.",
    unit: Unit::Rate,
    place: Place::Anywhere,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "ring, no spinning", |meter| crowd::measure(meter, "pipe()")),
        C::ours("Queue", "ring, no spinning", |meter| crowd::measure(meter, "Queue")),
        C::ours("Semaphore", "ring, no spinning", |meter| crowd::measure(meter, "Semaphore")),
        C::ours("Event", "ring, no spinning", |meter| crowd::measure(meter, "Event")),
        C::limit("ring, no spinning", |meter| crowd::measure(meter, "ring, no spinning")),
        C::limit("ring, 2,000 pauses", |meter| crowd::measure(meter, "ring, 2,000 pauses")),
        C::peer("pipe of the kernel", |meter| crowd::measure(meter, "pipe of the kernel")),
        C::peer("Unix socket", |meter| crowd::measure(meter, "Unix socket")),
        C::peer("ipc-channel", |meter| crowd::measure(meter, "ipc-channel")),
    ],
};
