//! Values that are encoded and decoded on the way.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours};

pub(super) const ROW: Row = Row {
    name: "stream-typed",
    title: "Stream of values: a number, a String, 16 f64",
    what: "One process sends, another takes; the limit is postcard alone, encoding and decoding on one thread.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("pipe()", "postcard alone", ours::large::typed),
        C::ours("Queue", "postcard alone", ours::large::typed_queue),
        C::limit("postcard alone", limit::large::postcard),
    ],
};
