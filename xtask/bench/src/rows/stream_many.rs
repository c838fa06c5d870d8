//! How many messages go through when more than two share a channel.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "stream-2x2",
    title: "Stream of 64-byte messages, two to two",
    what: "Two processes send, two take, all through one channel; each of two cores has a sender and a taker.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Queue", "ring with two robust locks", ours::many::stream),
        C::limit("ring with two robust locks", limit::many::stream),
        C::peer("pipe of the kernel", peers::many::pipe),
        C::threads("crossbeam-channel", peers::many::crossbeam),
        C::python("Python Queue", |meter| peers::python::measure("stream-2x2", meter)),
    ],
};
