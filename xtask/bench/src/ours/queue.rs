//! `Queue`, one each way: bytes, from where they are and into a buffer, or in a `Vec` of their own on either side.

use multiprocess::Queue;

use super::second;
use crate::contestant::{Failure, Measured};
use crate::link::{self, Link};
use crate::meter::Meter;

/// To the other side, and from it.
type Queues = (Queue<Vec<u8>>, Queue<Vec<u8>>);

impl<const N: usize> Link<N> for Queues {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.0.put_bytes(message)?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        if self.1.get_bytes_into(message)? == N { Ok(()) } else { Err("a message of another length".into()) }
    }
}

/// The same in vectors.
#[derive(serde::Serialize, serde::Deserialize)]
struct Owned(Queue<Vec<u8>>, Queue<Vec<u8>>);

impl<const N: usize> Link<N> for Owned {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.0.put(message.to_vec())?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        *message = self.1.get()?.try_into().map_err(|_| "a message of another length")?;
        Ok(())
    }
}

pub(crate) fn stream_owned(meter: &mut Meter) -> Measured {
    let (to, from) = (Queue::bounded(1024)?, Queue::bounded(1024)?);
    let process = second::start::<64, _>(Owned(from.clone(), to.clone()))?;
    link::stream::<64>(meter, &mut Owned(to, from))?;
    second::finish(process)
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_queues::<8>(|queues| link::round_trip::<8>(meter, queues))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_queues::<64>(|queues| link::stream::<64>(meter, queues))
}

pub(crate) fn stream_8(meter: &mut Meter) -> Measured {
    with_queues::<8>(|queues| link::stream::<8>(meter, queues))
}

fn with_queues<const N: usize>(measure: impl FnOnce(&mut Queues) -> Measured) -> Measured {
    // As many messages in between as the ring of the limit holds.
    let (to, from) = (Queue::bounded(1024)?, Queue::bounded(1024)?);
    let process = second::start::<N, Queues>((from.clone(), to.clone()))?;
    measure(&mut (to, from))?;
    second::finish(process)
}
