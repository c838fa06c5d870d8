//! What a lock costs that nobody else wants.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "lock",
    title: "Lock and unlock, free",
    what: "A lock in shared memory is taken and given back; nobody else wants it.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(4),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Lock", "robust pthread mutex", ours::lock::lock),
        C::limit("robust pthread mutex", limit::mutex::lock),
        C::peer("raw_sync", peers::raw_sync::lock),
        C::threads("parking_lot", peers::threads::lock),
        C::python("Python Lock", |meter| peers::python::measure("lock", meter)),
    ],
};
