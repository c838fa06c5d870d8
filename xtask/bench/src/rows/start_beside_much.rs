//! What a process costs in a large program.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "start-beside-much",
    title: "Start and join of a process, in a program with 1 GiB of heap and 200 threads",
    what: "A process is started with a function that does nothing, and joined.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 10_000,
    contestants: &[
        C::ours("ForkServer", "zygote", ours::start::fork_server_beside_much),
        C::ours("Process::spawn", "zygote", ours::start::spawn_beside_much),
        C::limit("zygote", limit::zygote::start_beside_much),
        C::peer("procspawn", peers::procspawn::start_beside_much),
    ],
};
