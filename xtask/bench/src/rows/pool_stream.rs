//! How many tasks go through a pool.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-stream",
    title: "Pool: no-op tasks, one by one",
    what: "Up to 20,000 tasks are submitted one by one to a pool of as many workers as there are cores; then all \
           results are awaited.",
    unit: Unit::Rate,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 20_000,
    contestants: &[
        C::ours("Pool", "ring to a worker", ours::pool::task_stream),
        C::limit("ring to a worker", limit::worker::stream),
        C::peer("procspawn", peers::procspawn::task_stream),
        C::threads("rayon", peers::threads::rayon_stream),
        C::threads("crossbeam-channel", peers::threads::worker_stream),
        C::python("Python Pool", |meter| peers::python::measure("pool-stream", meter)),
    ],
};
