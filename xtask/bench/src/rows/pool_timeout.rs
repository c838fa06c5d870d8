//! How soon a task that takes too long is over.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

/// What a task may take.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(20);

pub(super) const ROW: Row = Row {
    name: "pool-timeout",
    title: "Pool: past a time-out",
    what: "A task that sleeps for ever has a time-out of 20 ms; shown is how much later than that its worker is dead and its error there. With procspawn the caller has to kill; none of Python's pools can.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: 1,
    contestants: &[
        C::ours("Pool", "sleep, kill and wait", ours::pool_fates::timeout),
        C::limit("sleep, kill and wait", limit::blocked::timeout),
        C::peer("procspawn, join_timeout and kill", peers::procspawn::timeout),
    ],
};
