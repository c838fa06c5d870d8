//! Round trip and stream through the ring.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::barrier::Barrier;
use super::ring::{self, Side, Waiting};
use crate::contestant::{Failure, Measured};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role};

impl<const N: usize> Link<N> for Side {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Self::send(self, message);
        Ok(())
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        Self::recv(self, message);
        Ok(())
    }
}

/// What the argument of the role says.
pub(super) fn waiting(word: &str) -> Waiting {
    match word {
        "spinning" => Waiting { spins: 2000, barrier: Barrier::best() },
        _ => Waiting { spins: 0, barrier: Barrier::Fenced },
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_ring("spinning", |ring| link::round_trip::<8>(meter, ring))
}

pub(crate) fn round_trip_sleeping(meter: &mut Meter) -> Measured {
    with_ring("sleeping", |ring| link::round_trip::<8>(meter, ring))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_ring("spinning", |ring| link::stream::<64>(meter, ring))
}

pub(crate) fn stream_8(meter: &mut Meter) -> Measured {
    with_ring("spinning", |ring| link::stream::<8>(meter, ring))
}

fn with_ring(word: &str, measure: impl FnOnce(&mut Side) -> Measured) -> Measured {
    let (mut ring, fd) = ring::create(waiting(word))?;
    let child = role::command("ring", word, fd)?.spawn()?;
    measure(&mut ring)?;
    role::finish(child)
}

/// The second process: the memory is its standard input.
pub(crate) fn serve(word: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut ring = ring::open(&file, 1, waiting(word))?;
    // A slot holds both lengths, and the marks are in the first byte.
    link::serve::<64>(&mut ring)
}
