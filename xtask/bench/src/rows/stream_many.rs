//! How many messages go through when more than two share a channel.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const TWO: Row = Row {
    name: "stream-2x2",
    title: "Stream of 64-byte messages, two to two",
    what: "Two processes send, two take, all through one channel; each of two cores has a sender and a taker.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Queue", "ring with two robust locks", ours::many::stream::<2>),
        C::limit("ring with two robust locks", limit::many::stream::<2>),
        C::peer("pipe of the kernel", peers::many::pipe::<2>),
        C::threads("crossbeam-channel", peers::many::crossbeam::<2>),
        C::python("Python Queue", |meter| peers::python::measure("stream-2x2", meter)),
    ],
};

pub(super) const EIGHT: Row = Row {
    name: "stream-8x8",
    title: "Stream of 64-byte messages, eight to eight",
    what: "Eight processes send, eight take, all through one channel; each of two cores has four of either.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Queue", "ring with two robust locks", ours::many::stream::<8>),
        C::limit("ring with two robust locks", limit::many::stream::<8>),
        C::peer("pipe of the kernel", peers::many::pipe::<8>),
        C::threads("crossbeam-channel", peers::many::crossbeam::<8>),
        C::python("Python Queue", |meter| peers::python::measure("stream-8x8", meter)),
    ],
};

pub(super) const TYPED: Row = Row {
    name: "stream-2x2-typed",
    title: "Stream of values, two to two: a number, a String, 16 f64",
    what: "Two processes send, two take, all through one channel; the limit is postcard alone, encoding and decoding on both cores.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(20),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Queue", "postcard alone", ours::many::typed::<2>),
        C::limit("postcard alone", limit::large::postcard_twice),
        C::threads("crossbeam-channel", peers::many::crossbeam_typed::<2>),
        C::python("Python Queue", |meter| peers::python::measure("stream-2x2-typed", meter)),
    ],
};
