//! What part of the machine a pool makes use of.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-100us",
    title: "Pool: 10,000 tasks of 100 µs",
    what: "Each task works for 100 µs of its own CPU time; a pool of as many workers as there are cores gets 10,000 of them and gives all results, in order. Shown is the part of the ideal that it reached, in which no core ever does anything else.",
    unit: Unit::Ideal { one: crate::work::TASK },
    place: Place::Anywhere,
    batch: Duration::from_millis(700),
    most_ops: 10_000,
    contestants: &[
        C::ours("Pool, chunks", "array of tasks, chunks", ours::pool::busy_chunks),
        C::ours("Pool, one by one", "array of tasks, one by one", ours::pool::busy_one_by_one),
        C::limit("array of tasks, chunks", limit::pool::busy_chunks),
        C::limit("array of tasks, one by one", limit::pool::busy_one_by_one),
        C::peer("procspawn, chunks of 10", peers::procspawn::busy_chunks),
        C::peer("procspawn, one by one", peers::procspawn::busy_one_by_one),
        C::threads("rayon", peers::threads::rayon_busy),
        C::python("Python Pool, chunks", |meter| peers::python::measure("pool-busy-chunks", meter)),
        C::python("Python Pool, one by one", |meter| peers::python::measure("pool-busy-one", meter)),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-busy", meter)),
        C::python("loky", |meter| peers::python::measure_package("loky-busy", meter)),
    ],
};
