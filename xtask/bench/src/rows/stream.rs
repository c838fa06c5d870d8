//! How many messages go through.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "stream",
    title: "Stream of 64-byte messages, one to one",
    what: "One process sends, another takes; the last of a batch is answered. Each has a core of its own.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "ring", ours::pipe::stream),
        C::ours("Queue", "ring", ours::queue::stream),
        C::ours("Queue, Vec<u8>", "ring", ours::queue::stream_owned),
        C::ours("Listener and Client", "ring", ours::listener::stream),
        C::limit("ring", limit::links::stream),
        C::peer("pipe of the kernel", peers::kernel::pipe_stream),
        C::peer("Unix socket", peers::kernel::socket_stream),
        C::peer("ipc-channel", peers::ipc_channel::stream),
        C::peer("iceoryx2, polling", peers::iceoryx2::stream),
        C::threads("crossbeam-channel", peers::threads::stream),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-64", meter)),
    ],
};
