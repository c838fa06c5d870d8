//! How soon a pool is of use.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-start",
    title: "Pool: start and first result",
    what: "A pool of as many workers as there are cores is made, and the result of a first no-op task awaited.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("Pool, ForkServer", "zygote", ours::pool::start_fork_server),
        C::ours("Pool, Spawn", "zygote", ours::pool::start_spawn),
        C::limit("zygote", limit::pool::start),
        C::peer("procspawn", peers::procspawn::pool_start),
        C::threads("rayon", peers::threads::rayon_start),
        C::python("Python Pool, fork", |meter| peers::python::measure("pool-start-fork", meter)),
        C::python("Python Pool, forkserver", |meter| peers::python::measure("pool-start-forkserver", meter)),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-start", meter)),
        C::python("loky", |meter| peers::python::measure_package("loky-start", meter)),
    ],
};
