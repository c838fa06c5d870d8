//! What it costs to have a pool.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-idle",
    title: "Pool: idle for two seconds",
    what: "A pool that has worked before has nothing to do for two seconds. Shown are the CPU time of all processes, the look at it included, and the context switches of all threads but the one that looks.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("Pool", "blocked processes", ours::pool_fates::idle),
        C::limit("blocked processes", limit::blocked::idle),
        C::peer("procspawn", peers::procspawn::idle),
        C::python("Python Pool", |meter| peers::python::measure("pool-idle", meter)),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-idle", meter)),
        C::python("loky", |meter| peers::python::measure_package("loky-idle", meter)),
    ],
};
