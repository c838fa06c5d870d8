//! `Pool`, of as many workers as there are cores.

use multiprocess::process::{ForkServer, StartMethod};
use multiprocess::{Pool, cpu_count};

use crate::contestant::{Failure, Measured};
use crate::meter::{Meter, clock};
use crate::work;

fn same(argument: u64) -> u64 {
    argument
}

pub(crate) fn one_task(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    meter.measure(|n| {
        for argument in 0..n {
            pool.apply(same, (argument,))?;
        }
        Ok(())
    })
}

pub(crate) fn task_stream(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    meter.measure(|n| {
        let results: Vec<_> = (0..n).map(|argument| pool.apply_async(same, (argument,))).collect();
        for result in results {
            result.get()?;
        }
        Ok(())
    })
}

/// As `map` is: all results in a `Vec`, in order.
pub(crate) fn chunks(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    meter.measure(|n| work::check(&pool.map(same, 0..n)?))
}

pub(crate) fn busy_chunks(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    meter.measure(|n| work::check(&pool.map(work::busy, 0..n)?))
}

pub(crate) fn busy_one_by_one(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    meter.measure(|n| {
        let tasks: Vec<_> = (0..n).map(|argument| pool.apply_async(work::busy, (argument,))).collect();
        let results = tasks.into_iter().map(|task| task.get()).collect::<Result<Vec<_>, _>>()?;
        work::check(&results)
    })
}

pub(crate) fn start_spawn(meter: &mut Meter) -> Measured {
    start(meter, StartMethod::Spawn)
}

/// Nothing of the fork server's own start is measured.
pub(crate) fn start_fork_server(meter: &mut Meter) -> Measured {
    ForkServer::start()?;
    let measured = start(meter, StartMethod::ForkServer);
    ForkServer::stop();
    measured
}

/// Neither is the pool's end.
fn start(meter: &mut Meter, method: StartMethod) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = clock();
        let pool = Pool::builder().workers(cpu_count()).start_method(method).build()?;
        pool.apply(same, (7,))?;
        Ok(clock() - called)
    })
}
