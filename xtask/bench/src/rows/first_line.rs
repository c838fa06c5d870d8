//! How soon the function runs.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{ours, peers};

pub(super) const ROW: Row = Row {
    name: "first-line",
    title: "From the call to the child's first line",
    what: "A process (or thread) is started; the function reads the clock and gives it back. One start at a time.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("ForkServer with spares", "std thread", ours::start::first_line_spares),
        C::ours("ForkServer", "std thread", ours::start::first_line_fork_server),
        C::ours("Process::spawn", "std thread", ours::start::first_line_spawn),
        C::threads("std thread", peers::threads::first_line),
        C::peer("procspawn", peers::procspawn::first_line),
    ],
};
