//! A function in a process of its own, by each start method.

use multiprocess::Process;
use multiprocess::process::{Builder, ForkServer, StartMethod};

use crate::contestant::{Failure, Measured};
use crate::meter::Meter;

pub(crate) fn spawn(meter: &mut Meter) -> Measured {
    start_and_join(meter, &Process::builder())
}

/// Nothing of the fork server's own start is measured.
pub(crate) fn fork_server(meter: &mut Meter) -> Measured {
    served(0, |builder| start_and_join(meter, builder))
}

pub(crate) fn spares(meter: &mut Meter) -> Measured {
    served(SPARES, |builder| start_and_join(meter, builder))
}

/// With a gigabyte that is written to and two hundred threads beside.
pub(crate) fn fork_server_beside_much(meter: &mut Meter) -> Measured {
    super::super::peers::threads::beside_much(|| fork_server(meter))
}

pub(crate) fn spawn_beside_much(meter: &mut Meter) -> Measured {
    super::super::peers::threads::beside_much(|| spawn(meter))
}

pub(crate) fn first_line_spawn(meter: &mut Meter) -> Measured {
    first_line(meter, &Process::builder())
}

pub(crate) fn first_line_fork_server(meter: &mut Meter) -> Measured {
    served(0, |builder| first_line(meter, builder))
}

pub(crate) fn first_line_spares(meter: &mut Meter) -> Measured {
    served(SPARES, |builder| first_line(meter, builder))
}

const SPARES: usize = 2;

fn served(spares: usize, measure: impl FnOnce(&Builder) -> Measured) -> Measured {
    ForkServer::spares(spares)?;
    ForkServer::start()?;
    let measured = measure(&Process::builder().start_method(StartMethod::ForkServer));
    ForkServer::spares(0)?;
    ForkServer::stop();
    measured
}

fn start_and_join(meter: &mut Meter, builder: &Builder) -> Measured {
    meter.measure(|n| {
        for _ in 0..n {
            builder.spawn(|| (), ())?.join()?;
        }
        Ok(())
    })
}

/// The clock is the same in all processes.
fn first_line(meter: &mut Meter, builder: &Builder) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = crate::meter::clock();
        let there = builder.spawn(crate::meter::clock, ())?.join()?;
        Ok(there.saturating_sub(called))
    })
}
