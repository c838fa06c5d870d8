//! `Pool`, where nothing is to be done, or things go wrong.

use std::thread;
use std::time::Duration;

use multiprocess::pool::TaskError;
use multiprocess::{Pool, Value, cpu_count};
use rustix::process::{Pid, Signal, kill_process};

use crate::contestant::{Failure, Measured};
use crate::idle;
use crate::meter::{Meter, clock};
use crate::rows::pool_timeout::TIMEOUT;

fn hang(pid: Value<u32>) {
    pid.set(std::process::id());
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// All of its workers are there again.
fn await_workers(pool: &Pool) {
    while pool.stats().workers < pool.workers() {
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn idle(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    pool.map(|number: u64| number, 0..1000)?;
    idle::measure(meter)
}

pub(crate) fn kill(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    let pid = Value::new(0_u32)?;
    meter.measure_each(|| -> Result<u64, Failure> {
        pid.set(0);
        let task = pool.apply_async(hang, (pid.clone(),));
        while pid.get() == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        let worker = Pid::from_raw(pid.get().cast_signed()).ok_or("no process")?;
        let killed = clock();
        kill_process(worker, Signal::KILL)?;
        let result = task.get();
        let took = clock() - killed;
        await_workers(&pool);
        match result {
            Err(TaskError::WorkerDied { .. }) => Ok(took),
            other => Err(format!("a killed task gave {other:?}").into()),
        }
    })
}

pub(crate) fn timeout(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    let pid = Value::new(0_u32)?;
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = clock();
        let result = pool.task(hang).timeout(TIMEOUT).apply((pid.clone(),));
        let took = clock() - called;
        await_workers(&pool);
        match result {
            Err(TaskError::TimedOut) => Ok(took.saturating_sub(TIMEOUT.as_nanos() as u64)),
            other => Err(format!("a task that hangs gave {other:?}").into()),
        }
    })
}
