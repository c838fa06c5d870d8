//! `Pool`, of as many workers as there are cores.

use multiprocess::{Pool, cpu_count};

use crate::contestant::Measured;
use crate::meter::Meter;

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
