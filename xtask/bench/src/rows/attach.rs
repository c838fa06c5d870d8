//! What it costs to take over shared memory that has come as a descriptor.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "attach",
    title: "Attach a segment",
    what: "A descriptor of shared memory is duplicated, mapped, read once, unmapped and closed; ours checks besides what \
           lies behind it.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Segment", "bare memfd", ours::memory::attach),
        C::limit("bare memfd", limit::memory::attach),
        C::python("Python SharedMemory, by name", |meter| peers::python::measure("attach", meter)),
    ],
};
