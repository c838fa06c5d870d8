//! What a process costs.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "start",
    title: "Start and join of a process",
    what: "A process is started with a function that does nothing, and joined.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 10_000,
    contestants: &[
        C::ours("Process::spawn", "re-exec", ours::start::spawn),
        C::ours("ForkServer", "zygote", ours::start::fork_server),
        C::ours("ForkServer with spares", "zygote", ours::start::spares),
        C::limit("zygote", limit::zygote::start),
        C::limit("re-exec", limit::reexec::start),
        C::peer("procspawn", peers::procspawn::start),
        C::threads("std thread", peers::threads::start),
        C::python("Python fork", |meter| peers::python::measure("start-fork", meter)),
        C::python("Python forkserver", |meter| peers::python::measure("start-forkserver", meter)),
        C::python("Python spawn", |meter| peers::python::measure("start-spawn", meter)),
    ],
};
