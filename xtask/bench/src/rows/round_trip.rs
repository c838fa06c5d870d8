//! How fast a process answers.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "round-trip",
    title: "Round trip of 8 bytes",
    what: "8 bytes go to another process and come back. Each process has a core of its own.",
    unit: Unit::Time,
    place: Place::Apart,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "ring", ours::pipe::round_trip),
        C::ours("Queue", "ring", ours::queue::round_trip),
        C::ours("Listener and Client", "ring", ours::listener::round_trip),
        C::limit("ring", limit::links::round_trip),
        C::peer("pipe of the kernel", peers::kernel::pipe_round_trip),
        C::peer("Unix socket", peers::kernel::socket_round_trip),
        C::peer("ipc-channel", peers::ipc_channel::round_trip),
        C::peer("iceoryx2, polling", peers::iceoryx2::round_trip),
        C::threads("crossbeam-channel", peers::threads::round_trip),
        C::python("Python Pipe", |meter| peers::python::measure("round-trip-pipe", meter)),
        C::python("Python Queue", |meter| peers::python::measure("round-trip-queue", meter)),
    ],
};
