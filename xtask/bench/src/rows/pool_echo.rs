//! What a large argument and a large result cost.

use std::time::Duration;

use super::{Row, Unit};
use crate::contestant::Contestant as C;
use crate::cores::Place;
use crate::{limit, ours, peers};

/// Of an argument, and of a result.
pub(crate) const SIZE: usize = 1 << 20;

pub(super) const ROW: Row = Row {
    name: "pool-echo-1mib",
    title: "Pool: 1 MiB there and back",
    what: "A task is given 1 MiB and returns it. An `Array` is made once; it is written for each task, which gets it as it is, and copied out of afterwards. A `Frozen` is made anew for each task and copied out of the result: what it costs are new pages. All others hand over bytes that they own and get such.",
    unit: Unit::Time,
    place: Place::Anywhere,
    batch: Duration::from_millis(10),
    most_ops: u64::MAX,
    contestants: &[
        C::ours("Pool, Array", "two memcpys", ours::pool_echo::shared),
        C::ours("Pool, Frozen", "two memcpys", ours::pool_echo::frozen),
        C::ours("Pool, Vec<u8>", "two memcpys", ours::pool_echo::owned),
        C::limit("two memcpys", limit::large::two_memcpys::<SIZE>),
        C::peer("procspawn", peers::procspawn::echo),
        C::python("Python Pool", |meter| peers::python::measure("pool-echo", meter)),
        C::python("Python ProcessPoolExecutor", |meter| peers::python::measure("executor-echo", meter)),
    ],
};
