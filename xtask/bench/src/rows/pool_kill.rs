//! How soon a death is told.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-kill",
    title: "Pool: from a kill to its error",
    what: "A worker is killed by SIGKILL in the middle of a task; shown is the time until whoever waits for the result has the error. Python's Pool never tells.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("Pool", "kill and wait", ours::pool_fates::kill),
        C::limit("kill and wait", limit::blocked::kill),
        C::peer("procspawn", peers::procspawn::kill),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-kill", meter)),
        C::python("loky", |meter| peers::python::measure_package("loky-kill", meter)),
    ],
};
