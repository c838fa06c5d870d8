//! Two that put and two that get, through one `Queue`.

use multiprocess::Queue;

use crate::contestant::{Failure, Measured};
use crate::many::{self, Ends, Lane, SIZE};
use crate::meter::Meter;

impl Ends for Queue<Vec<u8>> {
    type Lane = Self;

    fn open(self) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl Lane for Queue<Vec<u8>> {
    fn put(&mut self, message: &[u8; SIZE]) -> Result<(), Failure> {
        Ok(Queue::put(self, message.to_vec())?)
    }

    fn take(&mut self) -> Result<[u8; SIZE], Failure> {
        self.get()?.try_into().map_err(|_| "a message of another length".into())
    }
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    many::between_processes(meter, Queue::<Vec<u8>>::bounded(1024)?)
}
