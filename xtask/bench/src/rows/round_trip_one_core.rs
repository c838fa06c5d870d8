//! How fast a process answers that must first be let onto the core.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "round-trip-one-core",
    title: "Round trip of 8 bytes, both on one core",
    what: "As the round trip, with both processes on the same core: whoever spins delays the answer.",
    unit: Unit::Time,
    place: Place::Together,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "ring, no spinning", ours::pipe::round_trip),
        C::ours("Queue", "ring, no spinning", ours::queue::round_trip),
        C::limit("ring, no spinning", limit::links::round_trip_sleeping),
        C::peer("pipe of the kernel", peers::kernel::pipe_round_trip),
        C::peer("Unix socket", peers::kernel::socket_round_trip),
        C::peer("ipc-channel", peers::ipc_channel::round_trip),
        C::threads("crossbeam-channel", peers::threads::round_trip),
        C::python("Python Pipe", |meter| peers::python::measure("round-trip-pipe", meter)),
    ],
};
