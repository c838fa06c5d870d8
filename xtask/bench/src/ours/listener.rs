//! A connection between a `Listener` and a `Client`: after the handshake it is to run as `pipe()` does.

use std::time::Duration;

use multiprocess::pipe::{Connection, Listener, connect};
use multiprocess::{Process, RemoteError};

use super::second;
use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::link;
use crate::meter::Meter;

/// Long for a process to start and to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_connection::<8>(|end| link::round_trip::<8>(meter, end))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_connection::<64>(|end| link::stream::<64>(meter, end))
}

fn with_connection<const N: usize>(measure: impl FnOnce(&mut Connection) -> Measured) -> Measured {
    let name = format!("\0bench-{}", std::process::id());
    let mut listener = Listener::bind(name.as_str(), None)?;
    let process = Process::builder().daemon(true).spawn(serve::<N>, (name,))?;
    let (mut here, _) = listener.accept_timeout(PATIENCE)?.ok_or("nobody has connected")?;
    measure(&mut here)?;
    second::finish(process)
}

fn serve<const N: usize>(name: String) -> Result<(), RemoteError> {
    let serve = || -> Result<(), Failure> {
        cores::pin_second()?;
        link::serve::<N>(&mut connect(name.as_str(), None)?)
    };
    Ok(serve().map_err(std::io::Error::other)?)
}
