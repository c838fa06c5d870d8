//! Threads of one process: what giving up isolation would gain.

use std::hint::black_box;
use std::thread::{self, JoinHandle, available_parallelism};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rayon::prelude::*;

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::link::{self, Link};
use crate::meter::{Meter, clock};
use crate::work;

pub(crate) fn start(meter: &mut Meter) -> Measured {
    meter.measure(|n| {
        for _ in 0..n {
            joined(thread::spawn(|| Ok(())))?;
        }
        Ok(())
    })
}

pub(crate) fn first_line(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = clock();
        let there = thread::spawn(clock).join().map_err(|_| "the thread panicked")?;
        Ok(there.saturating_sub(called))
    })
}

/// Runs `measure` beside a gigabyte of memory that is written to, and two hundred threads.
pub(crate) fn beside_much(measure: impl FnOnce() -> Measured) -> Measured {
    let heap = vec![1_u8; 1 << 30];
    let gate = std::sync::Barrier::new(201);
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| gate.wait());
        }
        let measured = measure();
        gate.wait();
        measured
    })?;
    black_box(&heap);
    Ok(())
}

fn joined(thread: JoinHandle<Result<(), Failure>>) -> Measured {
    Ok(thread.join().map_err(|_| "the second thread panicked")??)
}

type Ends<const N: usize> = (Sender<[u8; N]>, Receiver<[u8; N]>);

impl<const N: usize> Link<N> for Ends<N> {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.0.send(*message)?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        *message = self.1.recv()?;
        Ok(())
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_ends(|ends| link::round_trip::<8>(meter, ends))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_ends(|ends| link::stream::<64>(meter, ends))
}

/// As many slots as the ring of the limit.
fn with_ends<const N: usize>(measure: impl FnOnce(&mut Ends<N>) -> Measured) -> Measured {
    let (to_there, from_here) = bounded(1024);
    let (to_here, from_there) = bounded(1024);
    let other = thread::spawn(move || {
        cores::pin_second()?;
        link::serve::<N>(&mut (to_here, from_here))
    });
    measure(&mut (to_there, from_there))?;
    joined(other)
}

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let mutex = parking_lot::Mutex::new(0_u64);
    meter.measure(|n| {
        for _ in 0..n {
            drop(black_box(mutex.lock()));
        }
        Ok(())
    })
}

pub(crate) fn rayon_one(meter: &mut Meter) -> Measured {
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    meter.measure(|n| {
        for argument in 0..n {
            black_box(pool.install(|| black_box(argument)));
        }
        Ok(())
    })
}

pub(crate) fn rayon_stream(meter: &mut Meter) -> Measured {
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    meter.measure(|n| {
        pool.in_place_scope(|scope| {
            for argument in 0..n {
                scope.spawn(move |_| _ = black_box(argument));
            }
        });
        Ok(())
    })
}

pub(crate) fn rayon_chunks(meter: &mut Meter) -> Measured {
    rayon_map(meter, black_box)
}

pub(crate) fn rayon_busy(meter: &mut Meter) -> Measured {
    rayon_map(meter, work::busy)
}

fn rayon_map(meter: &mut Meter, function: fn(u64) -> u64) -> Measured {
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    meter.measure(|n| {
        let results: Vec<u64> = pool.install(|| (0..n).into_par_iter().map(function).collect());
        work::check(&results)
    })
}

pub(crate) fn rayon_start(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let called = clock();
        let pool = rayon::ThreadPoolBuilder::new().build()?;
        black_box(pool.install(|| black_box(7)));
        Ok(clock() - called)
    })
}

/// A task for the threads below, and where its result goes.
type Task = (fn(u64) -> u64, u64, Sender<u64>);

pub(crate) fn worker_one(meter: &mut Meter) -> Measured {
    with_workers(|tasks| {
        let (to, results) = unbounded();
        meter.measure(|n| {
            for argument in 0..n {
                tasks.send((black_box, argument, to.clone()))?;
                results.recv()?;
            }
            Ok(())
        })
    })
}

pub(crate) fn worker_stream(meter: &mut Meter) -> Measured {
    with_workers(|tasks| {
        let (to, results) = unbounded();
        meter.measure(|n| {
            for argument in 0..n {
                tasks.send((black_box, argument, to.clone()))?;
            }
            for _ in 0..n {
                results.recv()?;
            }
            Ok(())
        })
    })
}

/// As simple a pool of threads as can be: all take from one channel.
fn with_workers(measure: impl FnOnce(&Sender<Task>) -> Measured) -> Measured {
    let (tasks, queue) = unbounded::<Task>();
    let worker = |queue: Receiver<Task>| {
        move || {
            for (function, argument, result) in queue {
                result.send(function(argument))?;
            }
            Ok(())
        }
    };
    let count = available_parallelism()?.get();
    let workers: Vec<_> = (0..count).map(|_| thread::spawn(worker(queue.clone()))).collect();
    measure(&tasks)?;
    drop(tasks);
    workers.into_iter().try_for_each(joined)
}
