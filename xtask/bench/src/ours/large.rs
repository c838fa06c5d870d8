//! `pipe()` with messages of a mebibyte, and with values.

use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, RemoteError};

use super::second;
use crate::contestant::Measured;
use crate::cores;
use crate::limit::large::{ANSWER, PLAIN, SIZE, STOP, Value, value};
use crate::meter::Meter;

type Served = Result<(), RemoteError>;

pub(crate) fn into_buffer(meter: &mut Meter) -> Measured {
    bytes(meter, serve_into_buffer)
}

pub(crate) fn owned(meter: &mut Meter) -> Measured {
    bytes(meter, serve_owned)
}

fn serve_into_buffer(mut end: Connection) -> Served {
    cores::pin_second().map_err(std::io::Error::other)?;
    let mut buffer = vec![0; SIZE];
    loop {
        end.recv_bytes_into(&mut buffer)?;
        match buffer[0] {
            STOP => return Ok(()),
            ANSWER => end.send_bytes(b"!")?,
            _ => {}
        }
    }
}

fn serve_owned(mut end: Connection) -> Served {
    cores::pin_second().map_err(std::io::Error::other)?;
    loop {
        match end.recv_bytes()?.first() {
            Some(&STOP) => return Ok(()),
            Some(&ANSWER) => end.send_bytes(b"!")?,
            _ => {}
        }
    }
}

fn bytes<F>(meter: &mut Meter, serve: F) -> Measured
where
    F: Fn(Connection) -> Served + Copy + Send + Sync + 'static,
{
    let (mut here, there) = pipe()?;
    let process = Process::builder().daemon(true).spawn(serve, (there,))?;
    let mut message = vec![PLAIN; SIZE];
    meter.measure(|n| {
        message[0] = PLAIN;
        for _ in 1..n {
            here.send_bytes(&message)?;
        }
        message[0] = ANSWER;
        here.send_bytes(&message)?;
        here.recv_bytes()?;
        Ok(())
    })?;
    here.send_bytes(&[STOP])?;
    second::finish(process)
}

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
