//! Several that send and as many that take, through what is there without ours: a pipe of the kernel, and a channel between threads.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use multiprocess::lock::Passed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::contestant::{Failure, Measured};
use crate::limit::large::Value;
use crate::many::{self, Ends, Lane, Parcel, SIZE};
use crate::meter::Meter;

/// Both ends of one pipe.
#[derive(Clone)]
struct Pipe(Arc<(Passed<OwnedFd>, Passed<OwnedFd>)>);

impl Serialize for Pipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0.0, &self.0.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pipe, D::Error> {
        Deserialize::deserialize(deserializer).map(|ends| Pipe(Arc::new(ends)))
    }
}

impl Ends for Pipe {
    type Parcel = [u8; SIZE];
    type Lane = PipeLane;

    fn open(self) -> Result<PipeLane, Failure> {
        let from = BufReader::with_capacity(1024 * SIZE, File::from(self.0.0.0.try_clone()?));
        Ok(PipeLane { from, to: File::from(self.0.1.0.try_clone()?) })
    }
}

/// A write of 64 bytes is not mixed with another's, and a read takes whole ones: as many as are there.
struct PipeLane {
    from: BufReader<File>,
    to: File,
}

impl Lane<[u8; SIZE]> for PipeLane {
    fn put(&mut self, message: &[u8; SIZE]) -> Result<(), Failure> {
        Ok(self.to.write_all(message)?)
    }

    fn take(&mut self) -> Result<[u8; SIZE], Failure> {
        let mut message = [0; SIZE];
        self.from.read_exact(&mut message)?;
        Ok(message)
    }
}

pub(crate) fn pipe<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    let (from, to) = std::io::pipe()?;
    many::between_processes(meter, Pipe(Arc::new((Passed(from.into()), Passed(to.into())))), PAIRS)
}

impl<M: Parcel + Clone + Send + Sync> Lane<M> for (Sender<M>, Receiver<M>) {
    fn put(&mut self, message: &M) -> Result<(), Failure> {
        Ok(self.0.send(message.clone())?)
    }

    fn take(&mut self) -> Result<M, Failure> {
        Ok(self.1.recv()?)
    }
}

pub(crate) fn crossbeam<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    many::between_threads(meter, bounded::<[u8; SIZE]>(1024), PAIRS)
}

pub(crate) fn crossbeam_typed<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    many::between_threads(meter, bounded::<Value>(1024), PAIRS)
}
