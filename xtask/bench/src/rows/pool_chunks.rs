//! How many items a map gets through.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-chunks",
    title: "Pool: no-op items in chunks",
    what: "Up to a million no-op items are mapped at once, and all results awaited, in order; the pool chooses the chunks where it can.",
    unit: Unit::Rate,
    place: Place::Anywhere,
    batch: Duration::from_millis(20),
    most_ops: 1_000_000,
    contestants: &[
        C::ours("Pool", "array of tasks", ours::pool::chunks),
        C::limit("array of tasks", limit::pool::chunks),
        C::peer("procspawn, chunks of 50,000", peers::procspawn::chunks),
        C::threads("rayon", peers::threads::rayon_chunks),
        C::python("Python Pool", |meter| peers::python::measure("pool-chunks", meter)),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-chunks", meter)),
        C::python("loky", |meter| peers::python::measure_package("loky-chunks", meter)),
    ],
};
