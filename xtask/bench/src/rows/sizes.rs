//! The same stream with messages of other sizes; they are one picture, together with that of 64 bytes.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

const WHAT: &str =
    "One process sends, another takes; the last of a batch is answered. Each has a core of its own.";

pub(super) const STREAM_8B: Row = Row {
    name: "stream-8b",
    title: "Stream of messages of 8 bytes, one to one",
    what: WHAT,
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "ring", ours::pipe::stream_8),
        C::ours("Queue", "ring", ours::queue::stream_8),
        C::limit("ring", limit::links::stream_8),
        C::peer("pipe of the kernel", peers::kernel::pipe_stream_8),
        C::peer("Unix socket", peers::kernel::socket_stream_8),
        C::peer("ipc-channel", peers::ipc_channel::stream_8),
        C::peer("iceoryx2, polling", peers::iceoryx2::stream_8),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe-8", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue-8", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-8", meter)),
    ],
};

pub(super) const STREAM_1KIB: Row = Row {
    name: "stream-1kib",
    title: "Stream of messages of 1 KiB, one to one",
    what: WHAT,
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe() into a buffer", "ring of bytes", ours::lane::into_buffer::<{ 1 << 10 }>),
        C::ours("pipe() owned", "ring of bytes", ours::lane::owned::<{ 1 << 10 }>),
        C::ours("Queue into a buffer", "ring of bytes", ours::lane::queue::<{ 1 << 10 }>),
        C::ours("Queue owned", "ring of bytes", ours::lane::queue_owned::<{ 1 << 10 }>),
        C::limit("ring of bytes", limit::bytes::stream::<{ 1 << 10 }>),
        C::peer("pipe of the kernel", peers::kernel::pipe_lane::<{ 1 << 10 }>),
        C::peer("Unix socket", peers::kernel::socket_lane::<{ 1 << 10 }>),
        C::peer("ipc-channel", peers::ipc_channel::lane::<{ 1 << 10 }>),
        C::peer("iceoryx2, polling", peers::iceoryx2::lane::<{ 1 << 10 }>),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe-1024", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue-1024", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-1024", meter)),
    ],
};

pub(super) const STREAM_64KIB: Row = Row {
    name: "stream-64kib",
    title: "Stream of messages of 64 KiB, one to one",
    what: WHAT,
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe() into a buffer", "ring of bytes", ours::lane::into_buffer::<{ 1 << 16 }>),
        C::ours("pipe() owned", "ring of bytes", ours::lane::owned::<{ 1 << 16 }>),
        C::ours("Queue into a buffer", "ring of bytes", ours::lane::queue::<{ 1 << 16 }>),
        C::ours("Queue owned", "ring of bytes", ours::lane::queue_owned::<{ 1 << 16 }>),
        C::limit("ring of bytes", limit::bytes::stream::<{ 1 << 16 }>),
        C::limit("memcpy", limit::large::memcpy::<{ 1 << 16 }>),
        C::peer("pipe of the kernel", peers::kernel::pipe_lane::<{ 1 << 16 }>),
        C::peer("Unix socket", peers::kernel::socket_lane::<{ 1 << 16 }>),
        C::peer("ipc-channel", peers::ipc_channel::lane::<{ 1 << 16 }>),
        C::peer("iceoryx2, polling", peers::iceoryx2::lane::<{ 1 << 16 }>),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe-65536", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue-65536", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-65536", meter)),
    ],
};

pub(super) const STREAM_1MIB: Row = Row {
    name: "stream-1mib",
    title: "Stream of messages of 1 MiB, one to one",
    what: WHAT,
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe() into a buffer", "ring of bytes", ours::lane::into_buffer::<{ 1 << 20 }>),
        C::ours("pipe() owned", "ring of bytes", ours::lane::owned::<{ 1 << 20 }>),
        C::ours("Queue into a buffer", "ring of bytes", ours::lane::queue::<{ 1 << 20 }>),
        C::ours("Queue owned", "ring of bytes", ours::lane::queue_owned::<{ 1 << 20 }>),
        C::limit("ring of bytes", limit::bytes::stream::<{ 1 << 20 }>),
        C::limit("memcpy", limit::large::memcpy::<{ 1 << 20 }>),
        C::peer("pipe of the kernel", peers::kernel::pipe_lane::<{ 1 << 20 }>),
        C::peer("Unix socket", peers::kernel::socket_lane::<{ 1 << 20 }>),
        C::peer("ipc-channel", peers::ipc_channel::lane::<{ 1 << 20 }>),
        C::peer("iceoryx2, polling", peers::iceoryx2::lane::<{ 1 << 20 }>),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe-1048576", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue-1048576", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-1048576", meter)),
    ],
};

pub(super) const STREAM_64MIB: Row = Row {
    name: "stream-64mib",
    title: "Stream of messages of 64 MiB, one to one",
    what: WHAT,
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe() into a buffer", "ring of bytes", ours::lane::into_buffer::<{ 64 << 20 }>),
        C::ours("pipe() owned", "ring of bytes", ours::lane::owned::<{ 64 << 20 }>),
        C::ours("Queue into a buffer", "ring of bytes", ours::lane::queue::<{ 64 << 20 }>),
        C::ours("Queue owned", "ring of bytes", ours::lane::queue_owned::<{ 64 << 20 }>),
        C::limit("ring of bytes", limit::bytes::stream::<{ 64 << 20 }>),
        C::limit("memcpy", limit::large::memcpy::<{ 64 << 20 }>),
        C::peer("pipe of the kernel", peers::kernel::pipe_lane::<{ 64 << 20 }>),
        C::peer("Unix socket", peers::kernel::socket_lane::<{ 64 << 20 }>),
        C::peer("ipc-channel", peers::ipc_channel::lane::<{ 64 << 20 }>),
        C::peer("iceoryx2, polling", peers::iceoryx2::lane::<{ 64 << 20 }>),
        C::python("Python Pipe", |meter| peers::python::measure("stream-pipe-67108864", meter)),
        C::python("Python Queue", |meter| peers::python::measure("stream-queue-67108864", meter)),
        C::python("faster-fifo", |meter| peers::python::measure_package("stream-fifo-67108864", meter)),
    ],
};
