//! `pipe()`: both ends' bytes, no values encoded.

use std::process::Stdio;

use mp_pipe::{Connection, give, pipe, take};

use crate::contestant::{Failure, Measured};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role};

impl<const N: usize> Link<N> for Connection {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.send_bytes(message)?)
    }

    fn recv(&mut self) -> Result<[u8; N], Failure> {
        self.recv_bytes()?.try_into().map_err(|_| "a message of another length".into())
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_pipe("8", |end| link::round_trip::<8>(meter, end))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_pipe("64", |end| link::stream::<64>(meter, end))
}

fn with_pipe(size: &str, measure: impl FnOnce(&mut Connection) -> Measured) -> Measured {
    let (mut here, there) = pipe()?;
    let mut command = role::command("ours-pipe", size, Stdio::null())?;
    give(&mut command, "end", &there)?;
    let child = command.spawn()?;
    drop((command, there));
    measure(&mut here)?;
    role::finish(child)
}

pub(crate) fn serve(size: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let mut end: Connection = take("end")?;
    if size == "8" { link::serve::<8>(&mut end) } else { link::serve::<64>(&mut end) }
}
