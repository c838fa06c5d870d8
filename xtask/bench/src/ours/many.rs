//! Several that put and as many that get, through one `Queue`.

use multiprocess::Queue;

use crate::contestant::{Failure, Measured};
use crate::limit::large::Value;
use crate::many::{self, Ends, Lane, SIZE};
use crate::meter::Meter;

impl Ends for Queue<Vec<u8>> {
    type Parcel = [u8; SIZE];
    type Lane = Self;

    fn open(self) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl Lane<[u8; SIZE]> for Queue<Vec<u8>> {
    fn put(&mut self, message: &[u8; SIZE]) -> Result<(), Failure> {
        Ok(Queue::put(self, message.to_vec())?)
    }

    fn take(&mut self) -> Result<[u8; SIZE], Failure> {
        self.get()?.try_into().map_err(|_| "a message of another length".into())
    }
}

impl Ends for Queue<Value> {
    type Parcel = Value;
    type Lane = Self;

    fn open(self) -> Result<Self, Failure> {
        Ok(self)
    }
}

impl Lane<Value> for Queue<Value> {
    fn put(&mut self, message: &Value) -> Result<(), Failure> {
        Ok(Queue::put(self, message.clone())?)
    }

    fn take(&mut self) -> Result<Value, Failure> {
        Ok(self.get()?)
    }
}

pub(crate) fn stream<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    many::between_processes(meter, Queue::<Vec<u8>>::bounded(1024)?, PAIRS)
}

pub(crate) fn typed<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    many::between_processes(meter, Queue::<Value>::bounded(1024)?, PAIRS)
}
