//! procspawn: a function in a fresh process, and a pool of such.

use std::thread::available_parallelism;

use procspawn::{Pool, ProcConfig};

use crate::contestant::Measured;
use crate::meter::{Meter, clock};

/// Each unfinished job holds several descriptors here: more at once than this, and they run out.
const WAVE: u64 = 100;

/// A child of `procspawn` enters here and does not return.
pub(crate) fn init() {
    ProcConfig::new().pass_args(false).init();
}

pub(crate) fn start(meter: &mut Meter) -> Measured {
    meter.measure(|n| {
        for _ in 0..n {
            procspawn::spawn((), |()| ()).join()?;
        }
        Ok(())
    })
}

pub(crate) fn start_beside_much(meter: &mut Meter) -> Measured {
    super::threads::beside_much(|| start(meter))
}

pub(crate) fn first_line(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, crate::contestant::Failure> {
        let called = clock();
        let there = procspawn::spawn((), |()| clock()).join()?;
        Ok(there.saturating_sub(called))
    })
}

pub(crate) fn one_task(meter: &mut Meter) -> Measured {
    let pool = Pool::new(available_parallelism()?.get())?;
    meter.measure(|n| {
        for argument in 0..n {
            pool.spawn(argument, |argument| argument).join()?;
        }
        Ok(())
    })
}

pub(crate) fn task_stream(meter: &mut Meter) -> Measured {
    let pool = Pool::new(available_parallelism()?.get())?;
    meter.measure(|n| {
        for first in (0..n).step_by(WAVE as usize) {
            let wave = first..n.min(first + WAVE);
            let jobs: Vec<_> = wave.map(|argument| pool.spawn(argument, |argument| argument)).collect();
            for job in jobs {
                job.join()?;
            }
        }
        Ok(())
    })
}
