//! Each thing that can be waited for, awaited for a second.

use std::fs::File;
use std::os::fd::OwnedFd;

use multiprocess::lock::{Event, Passed, Semaphore};
use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, Queue, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::waiting;

/// What the other process does to end the wait.
trait Wake: Serialize + DeserializeOwned + 'static {
    fn wake(&mut self) -> Result<(), Failure>;
}

impl Wake for Connection {
    fn wake(&mut self) -> Result<(), Failure> {
        Ok(self.send_bytes(b"!")?)
    }
}

impl Wake for Queue<u64> {
    fn wake(&mut self) -> Result<(), Failure> {
        Ok(self.put(1)?)
    }
}

impl Wake for Semaphore {
    fn wake(&mut self) -> Result<(), Failure> {
        Ok(self.release(1)?)
    }
}

impl Wake for Event {
    fn wake(&mut self) -> Result<(), Failure> {
        self.set();
        Ok(())
    }
}

pub(crate) fn pipe_recv(meter: &mut Meter) -> Measured {
    let (mut here, there) = pipe()?;
    measure(meter, there, || {
        here.recv_bytes()?;
        Ok(())
    })
}

pub(crate) fn queue_get(meter: &mut Meter) -> Measured {
    let queue = Queue::new()?;
    measure(meter, queue.clone(), || {
        queue.get()?;
        Ok(())
    })
}

pub(crate) fn semaphore_acquire(meter: &mut Meter) -> Measured {
    let semaphore = Semaphore::new(0)?;
    measure(meter, semaphore.clone(), || {
        semaphore.acquire().forget();
        Ok(())
    })
}

pub(crate) fn event_wait(meter: &mut Meter) -> Measured {
    let event = Event::new()?;
    measure(meter, event.clone(), || {
        event.wait();
        Ok(())
    })
}

fn measure<W: Wake>(meter: &mut Meter, there: W, wait: impl FnOnce() -> Result<(), Failure>) -> Measured {
    let (arena, fd) = Arena::create()?;
    let process: Process<Result<(), RemoteError>> =
        Process::builder().daemon(true).spawn(serve::<W>, (there, Passed(fd)))?;
    waiting::measure(meter, &arena, wait)?;
    Ok(process.join()??)
}

fn serve<W: Wake>(mut end: W, fd: Passed<OwnedFd>) -> Result<(), RemoteError> {
    let served = Arena::open(&File::from(fd.0))
        .map_err(Failure::from)
        .and_then(|arena| waiting::serve(&arena, || end.wake()));
    Ok(served.map_err(std::io::Error::other)?)
}
