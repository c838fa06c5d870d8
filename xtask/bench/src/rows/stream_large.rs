//! Messages that are memory traffic, not calls.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "stream-1mib",
    title: "Stream of messages of 1 MiB, one to one",
    what: "One process sends, another takes; the last of a batch is answered. Each has a core of its own.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe() into a buffer", "memcpy", ours::large::into_buffer),
        C::ours("pipe() owned", "memcpy", ours::large::owned),
        C::limit("memcpy", limit::large::memcpy),
        C::peer("pipe of the kernel", peers::kernel::pipe_stream_large),
        C::peer("Unix socket", peers::kernel::socket_stream_large),
    ],
};
