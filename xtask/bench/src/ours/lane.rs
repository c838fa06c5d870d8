//! `pipe()` and `Queue`, with messages of any size.

use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, Queue, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::lane::{self, Lane};
use crate::meter::Meter;

impl Lane for Connection {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.send_bytes(message)?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        self.recv_bytes_into(buffer)?;
        Ok(())
    }
}

/// As a `Vec` of its own.
#[derive(serde::Serialize, serde::Deserialize)]
struct Owned(Connection);

impl Lane for Owned {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.send_bytes(message)?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        *buffer = self.0.recv_bytes()?;
        Ok(())
    }
}

/// To the other side, and from it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Queues(Queue<Vec<u8>>, Queue<Vec<u8>>);

impl Lane for Queues {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.put_bytes(message)?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        self.1.get_bytes_into(buffer)?;
        Ok(())
    }
}

/// As a `Vec` of its own on either side.
#[derive(serde::Serialize, serde::Deserialize)]
struct OwnedQueues(Queues);

impl Lane for OwnedQueues {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.0.put(message.to_vec())?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        *buffer = self.0.1.get()?;
        Ok(())
    }
}

pub(crate) fn into_buffer<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (here, there) = pipe()?;
    measure::<SIZE, _>(meter, here, there)
}

pub(crate) fn owned<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (here, there) = pipe()?;
    measure::<SIZE, _>(meter, Owned(here), Owned(there))
}

pub(crate) fn queue<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (here, there) = queues::<SIZE>()?;
    measure::<SIZE, _>(meter, here, there)
}

pub(crate) fn queue_owned<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (here, there) = queues::<SIZE>()?;
    measure::<SIZE, _>(meter, OwnedQueues(here), OwnedQueues(there))
}

/// No more than 64 MiB of messages at a time, and two of those that are as long.
fn queues<const SIZE: usize>() -> std::io::Result<(Queues, Queues)> {
    let bound = ((64 << 20) / SIZE).clamp(2, 1024);
    let (to, from) = (Queue::bounded(bound)?, Queue::bounded(bound)?);
    Ok((Queues(to.clone(), from.clone()), Queues(from, to)))
}

fn measure<const SIZE: usize, L>(meter: &mut Meter, mut here: L, there: L) -> Measured
where
    L: Lane + Serialize + DeserializeOwned + 'static,
{
    let process: Process<Result<(), RemoteError>> =
        Process::builder().daemon(true).spawn(serve::<L>, (there, SIZE))?;
    lane::stream::<SIZE>(meter, &mut here)?;
    Ok(process.join()??)
}

fn serve<L: Lane>(mut end: L, size: usize) -> Result<(), RemoteError> {
    let served = cores::pin_second().and_then(|()| lane::serve(size, &mut end));
    Ok(served.map_err(std::io::Error::other)?)
}
