//! `pipe()` with values.

use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, RemoteError};

use super::second;
use crate::contestant::Measured;
use crate::cores;
use crate::limit::large::{ANSWER, PLAIN, STOP, Value, value};
use crate::meter::Meter;

type Served = Result<(), RemoteError>;

pub(crate) fn typed(meter: &mut Meter) -> Measured {
    let (mut here, there) = pipe()?;
    let process = Process::builder().daemon(true).spawn(serve_typed, (there,))?;
    let (plain, ask) = (value(PLAIN), value(ANSWER));
    meter.measure(|n| {
        for _ in 1..n {
            here.send(plain.clone())?;
        }
        here.send(ask.clone())?;
        here.recv::<Value>()?;
        Ok(())
    })?;
    here.send(value(STOP))?;
    second::finish(process)
}

fn serve_typed(mut end: Connection) -> Served {
    cores::pin_second().map_err(std::io::Error::other)?;
    loop {
        let value: Value = end.recv()?;
        match u8::try_from(value.0) {
            Ok(STOP) => return Ok(()),
            Ok(ANSWER) => end.send(value)?,
            _ => {}
        }
    }
}
