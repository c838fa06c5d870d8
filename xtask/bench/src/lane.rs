//! A stream of messages of any size, over anything that carries bytes between two sides.

use crate::contestant::{Failure, Measured};
use crate::meter::Meter;

/// Two-way.
pub(crate) trait Lane {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;

    /// A message of the buffer's length: into it, or in its place where the API gives a buffer of its own.
    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure>;
}

/// What the first byte of a message says.
const PLAIN: u8 = 1;
const ANSWER: u8 = 2;
const STOP: u8 = 3;

/// Only the last message of a batch is answered, by a byte: all before it have then been taken.
pub(crate) fn stream<const SIZE: usize>(meter: &mut Meter, lane: &mut impl Lane) -> Measured {
    let (mut message, mut answer) = (vec![PLAIN; SIZE], vec![0]);
    meter.measure(|n| {
        message[0] = PLAIN;
        for _ in 1..n {
            lane.send(&message)?;
        }
        message[0] = ANSWER;
        lane.send(&message)?;
        Ok(lane.recv(&mut answer)?)
    })?;
    message[0] = STOP;
    Ok(lane.send(&message)?)
}

/// The other side.
pub(crate) fn serve(size: usize, lane: &mut impl Lane) -> Result<(), Failure> {
    let mut buffer = vec![0; size];
    loop {
        lane.recv(&mut buffer)?;
        match buffer.first() {
            Some(&PLAIN) => {}
            Some(&ANSWER) => lane.send(b"!")?,
            Some(&STOP) => return Ok(()),
            mark => return Err(format!("a message of no kind: {mark:?}").into()),
        }
    }
}
