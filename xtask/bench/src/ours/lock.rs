//! `Lock`: what it costs that a killed holder hangs nobody.

use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use multiprocess::lock::Passed;
use multiprocess::{Lock, Process, RemoteError};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::{cores, fight};

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let lock = Lock::new()?;
    meter.measure(|n| {
        for _ in 0..n {
            drop(black_box(lock.acquire().map_err(|error| error.into_owned())?));
        }
        Ok(())
    })
}

fn turn(lock: &Lock, inside: &mut dyn FnMut()) -> Result<(), Failure> {
    let _guard = lock.acquire().map_err(|error| error.into_owned())?;
    inside();
    Ok(())
}

pub(crate) fn fight(meter: &mut Meter) -> Measured {
    let lock = Lock::new()?;
    let (arena, fd) = Arena::create()?;
    let process: Process<Result<(), RemoteError>> =
        Process::builder().daemon(true).spawn(serve, (lock.clone(), Passed(fd)))?;
    fight::measure(meter, &arena, |inside| turn(&lock, inside))?;
    process.join()??;
    fight::check(&arena)
}

fn serve(lock: Lock, fd: Passed<OwnedFd>) -> Result<(), RemoteError> {
    let serve = || -> Result<(), Failure> {
        cores::pin_second()?;
        let arena = Arena::open(&File::from(fd.0))?;
        fight::serve(&arena, |inside| turn(&lock, inside))
    };
    Ok(serve().map_err(std::io::Error::other)?)
}
