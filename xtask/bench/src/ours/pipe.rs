//! `pipe()`: both ends' bytes, no values encoded.

use multiprocess::pipe::{Connection, pipe};

use super::second;
use crate::contestant::{Failure, Measured};
use crate::link::{self, Link};
use crate::meter::Meter;

impl<const N: usize> Link<N> for Connection {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.send_bytes(message)?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        if self.recv_bytes_into(message)? == N { Ok(()) } else { Err("a message of another length".into()) }
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_pipe::<8>(|end| link::round_trip::<8>(meter, end))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_pipe::<64>(|end| link::stream::<64>(meter, end))
}

pub(crate) fn stream_8(meter: &mut Meter) -> Measured {
    with_pipe::<8>(|end| link::stream::<8>(meter, end))
}

fn with_pipe<const N: usize>(measure: impl FnOnce(&mut Connection) -> Measured) -> Measured {
    let (mut here, there) = pipe()?;
    let process = second::start::<N, _>(there)?;
    measure(&mut here)?;
    second::finish(process)
}
