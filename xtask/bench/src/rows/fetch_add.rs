//! What it costs to change a value that several processes share.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "fetch-add",
    title: "Adding to a shared value",
    what: "One is added to a number in shared memory in one step; nobody else uses it.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Value::fetch_add", "bare atomic", ours::memory::fetch_add),
        C::limit("bare atomic", limit::memory::fetch_add),
        C::python("Python Value, with its lock", |meter| peers::python::measure("fetch-add", meter)),
    ],
};
