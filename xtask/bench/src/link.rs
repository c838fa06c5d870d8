//! Round trip and stream over anything that carries messages of a fixed size between two sides.

use crate::contestant::{Failure, Measured};
use crate::meter::Meter;

/// Two-way, for messages of `N` bytes.
pub(crate) trait Link<const N: usize> {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure>;
    /// Into `message`, which is used again and again.
    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure>;
}

/// The first byte of a message says what the other side does with it.
const PLAIN: u8 = 1;
const ANSWER: u8 = 2;
const STOP: u8 = 3;

fn message<const N: usize>(mark: u8) -> [u8; N] {
    let mut message = [0x5a; N];
    message[0] = mark;
    message
}

/// The other side: takes messages, answers those that want it, until told to stop.
pub(crate) fn serve<const N: usize>(link: &mut impl Link<N>) -> Result<(), Failure> {
    let mut message = [0; N];
    loop {
        link.recv(&mut message)?;
        match message[0] {
            PLAIN => {}
            ANSWER => link.send(&message)?,
            STOP => return Ok(()),
            mark => return Err(format!("a message of no kind: {mark}").into()),
        }
    }
}

/// Each message is answered before the next is sent.
pub(crate) fn round_trip<const N: usize>(meter: &mut Meter, link: &mut impl Link<N>) -> Measured {
    let (ask, mut answer) = (message(ANSWER), [0; N]);
    meter.measure(|n| {
        for _ in 0..n {
            link.send(&ask)?;
            link.recv(&mut answer)?;
        }
        Ok(())
    })?;
    Ok(link.send(&message(STOP))?)
}

/// Only the last message of a batch is answered: all before it have then been taken.
pub(crate) fn stream<const N: usize>(meter: &mut Meter, link: &mut impl Link<N>) -> Measured {
    let (plain, ask, mut answer) = (message(PLAIN), message(ANSWER), [0; N]);
    meter.measure(|n| {
        for _ in 1..n {
            link.send(&plain)?;
        }
        link.send(&ask)?;
        Ok(link.recv(&mut answer)?)
    })?;
    Ok(link.send(&message(STOP))?)
}
