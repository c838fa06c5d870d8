//! What becomes of a lock that two processes want all the time.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

pub(super) const ROW: Row = Row {
    name: "lock-fight",
    title: "Lock and unlock, two processes fighting",
    what: "Two processes acquire the same lock, add one to a number, and release it, all the time. An operation is a turn of either. Each has a core of its own.",
    unit: Unit::Rate,
    place: Place::Apart,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Lock", "robust pthread mutex", ours::lock::fight),
        C::limit("robust pthread mutex", limit::mutex::fight),
        C::peer("raw_sync", peers::raw_sync::fight),
    ],
};
