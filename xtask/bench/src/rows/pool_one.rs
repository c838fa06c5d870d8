//! How fast a pool answers.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "pool-one",
    title: "Pool: one no-op task",
    what: "A task is handed to an idle pool of as many workers as there are cores, and its result awaited.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Pool", "ring to a worker", ours::pool::one_task),
        C::limit("ring to a worker", limit::worker::one),
        C::peer("procspawn", peers::procspawn::one_task),
        C::threads("rayon", peers::threads::rayon_one),
        C::threads("crossbeam-channel", peers::threads::worker_one),
        C::python("Python Pool", |meter| peers::python::measure("pool-one", meter)),
    ],
};
