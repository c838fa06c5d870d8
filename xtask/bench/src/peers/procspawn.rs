//! procspawn: a function in a fresh process, and a pool of such.

use std::thread::available_parallelism;
use std::time::Duration;

use procspawn::{Pool, ProcConfig};
use rustix::process::{Pid, Signal, kill_process};

use crate::contestant::{Failure, Measured};
use crate::meter::{Meter, clock};
use crate::rows::pool_echo::SIZE;
use crate::rows::pool_timeout::TIMEOUT;
use crate::work;

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

/// It has no `map`: as many items in a job as were found to be best for it.
pub(crate) fn chunks(meter: &mut Meter) -> Measured {
    in_chunks(meter, CHUNK, |items| items)
}

/// A millisecond of work in a job.
pub(crate) fn busy_chunks(meter: &mut Meter) -> Measured {
    let chunk = 1_000_000 / work::TASK.as_nanos() as u64;
    in_chunks(meter, chunk, |items| items.into_iter().map(work::busy).collect())
}

pub(crate) fn busy_one_by_one(meter: &mut Meter) -> Measured {
    in_chunks(meter, 1, |items| items.into_iter().map(work::busy).collect())
}

const CHUNK: u64 = 50_000;

fn in_chunks(meter: &mut Meter, chunk: u64, function: fn(Vec<u64>) -> Vec<u64>) -> Measured {
    let pool = Pool::new(available_parallelism()?.get())?;
    meter.measure(|n| {
        let mut results = Vec::new();
        let starts: Vec<u64> = (0..n).step_by(chunk as usize).collect();
        for wave in starts.chunks(WAVE as usize) {
            let jobs: Vec<_> = wave
                .iter()
                .map(|&first| pool.spawn((first..n.min(first + chunk)).collect::<Vec<u64>>(), function))
                .collect();
            for job in jobs {
                results.extend(job.join()?);
            }
        }
        work::check(&results)
    })
}

fn hang(path: String) {
    // Who waits for it gives up in the end.
    let _ = std::fs::write(path, std::process::id().to_string());
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What a task says by a file, once it says something.
fn said(path: &str) -> i32 {
    loop {
        if let Some(pid) = std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()) {
            return pid;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A pool that lost a process is not used again.
pub(crate) fn kill(meter: &mut Meter) -> Measured {
    let path = std::env::temp_dir().join(format!("bench-procspawn-{}", std::process::id()));
    let path = path.to_str().ok_or("a path that is no text")?;
    let measured = meter.measure_each(|| -> Result<u64, Failure> {
        let _ = std::fs::remove_file(path);
        let pool = Pool::new(available_parallelism()?.get())?;
        let task = pool.spawn(path.to_owned(), hang);
        let pid = Pid::from_raw(said(path)).ok_or("no process")?;
        let killed = clock();
        kill_process(pid, Signal::KILL)?;
        let result = task.join();
        let took = clock() - killed;
        pool.kill();
        if result.is_err() { Ok(took) } else { Err("a killed task gave a result".into()) }
    });
    let _ = std::fs::remove_file(path);
    measured
}

/// It leaves the killing to the caller.
pub(crate) fn timeout(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let pool = Pool::new(available_parallelism()?.get())?;
        pool.spawn((), |()| ()).join()?;
        let begun = clock();
        let mut task = pool.spawn(String::new(), hang);
        let result = task.join_timeout(TIMEOUT);
        task.kill()?;
        let took = clock() - begun;
        pool.kill();
        if result.is_err() {
            Ok(took.saturating_sub(TIMEOUT.as_nanos() as u64))
        } else {
            Err("a task that hangs gave a result".into())
        }
    })
}

pub(crate) fn idle(meter: &mut Meter) -> Measured {
    let pool = Pool::new(available_parallelism()?.get())?;
    pool.spawn((), |()| ()).join()?;
    crate::idle::measure(meter)
}

pub(crate) fn echo(meter: &mut Meter) -> Measured {
    let pool = Pool::new(available_parallelism()?.get())?;
    let mut bytes = vec![1_u8; SIZE];
    meter.measure(|n| {
        for _ in 0..n {
            bytes = pool.spawn(std::mem::take(&mut bytes), |bytes| bytes).join()?;
        }
        Ok(())
    })
}

pub(crate) fn pool_start(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = clock();
        let pool = Pool::new(available_parallelism()?.get())?;
        pool.spawn((), |()| ()).join()?;
        let took = clock() - called;
        pool.shutdown();
        Ok(took)
    })
}
