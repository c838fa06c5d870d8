//! `Semaphore`, `Event`, `Condition`: a turn goes to another process and comes back.

use std::fs::File;
use std::os::fd::OwnedFd;

use multiprocess::lock::{Condition, Event, Mutex, Passed, Semaphore};
use multiprocess::{Process, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::meter::Meter;

/// Something that two sides hand to each other: side 0 begins. Inlined into the loop, as the limit's are: to return after a switch costs.
trait Baton: Clone + Serialize + DeserializeOwned + 'static {
    fn give(&self, to: usize) -> Result<(), Failure>;
    fn take(&self, own: usize) -> Result<(), Failure>;
}

impl Baton for [Semaphore; 2] {
    #[inline(always)]
    fn give(&self, to: usize) -> Result<(), Failure> {
        Ok(self[to].release(1)?)
    }

    #[inline(always)]
    fn take(&self, own: usize) -> Result<(), Failure> {
        self[own].acquire().forget();
        Ok(())
    }
}

impl Baton for [Event; 2] {
    #[inline(always)]
    fn give(&self, to: usize) -> Result<(), Failure> {
        self[to].set();
        Ok(())
    }

    #[inline(always)]
    fn take(&self, own: usize) -> Result<(), Failure> {
        self[own].wait();
        self[own].clear();
        Ok(())
    }
}

/// Whose turn it is, and the news of a change.
type Turn = (Mutex<u32>, Condition);

impl Baton for Turn {
    #[inline(always)]
    fn give(&self, to: usize) -> Result<(), Failure> {
        self.0.acquire().map_err(|error| error.into_owned())?.set(to as u32);
        self.1.notify_one();
        Ok(())
    }

    #[inline(always)]
    fn take(&self, own: usize) -> Result<(), Failure> {
        let mut guard = self.0.acquire().map_err(|error| error.into_owned())?;
        while guard.get() != own as u32 {
            self.1.wait(&mut guard)?;
        }
        Ok(())
    }
}

pub(crate) fn semaphore(meter: &mut Meter) -> Measured {
    measure(meter, [Semaphore::new(0)?, Semaphore::new(0)?])
}

pub(crate) fn event(meter: &mut Meter) -> Measured {
    measure(meter, [Event::new()?, Event::new()?])
}

pub(crate) fn condition(meter: &mut Meter) -> Measured {
    measure(meter, (Mutex::new(0)?, Condition::new()?))
}

fn measure<B: Baton>(meter: &mut Meter, baton: B) -> Measured {
    let (arena, fd) = Arena::create()?;
    let process: Process<Result<(), RemoteError>> =
        Process::builder().daemon(true).spawn(serve::<B>, (baton.clone(), Passed(fd)))?;
    let round = || baton.give(1).and_then(|()| baton.take(0));
    // The other side is there before a batch is timed.
    round()?;
    meter.measure(|n| {
        for _ in 0..n {
            round()?;
        }
        Ok(())
    })?;
    arena.stop();
    baton.give(1)?;
    Ok(process.join()??)
}

fn serve<B: Baton>(baton: B, fd: Passed<OwnedFd>) -> Result<(), RemoteError> {
    let serve = || -> Result<(), Failure> {
        cores::pin_second()?;
        let arena = Arena::open(&File::from(fd.0))?;
        loop {
            baton.take(1)?;
            if arena.is_stopped() {
                return Ok(());
            }
            baton.give(0)?;
        }
    };
    Ok(serve().map_err(std::io::Error::other)?)
}
