//! The limit of a pool: one worker process, a ring of tasks to it and a ring of results back.
//!
//! Each side has a core of its own: two that spin for each other on one would be no limit of anything.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::links::waiting;
use super::ring::{self, Side};
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::{cores, role};

/// As a task crosses: which function, and its argument. A result is the same size.
type Task = [u64; 2];

const NO_OP: u64 = 0;
const STOP: u64 = 1;

const FUNCTIONS: &[fn(u64) -> u64] = &[|argument| argument];

fn bytes([function, argument]: Task) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&function.to_ne_bytes());
    bytes[8..].copy_from_slice(&argument.to_ne_bytes());
    bytes
}

fn task(bytes: [u8; 16]) -> Task {
    let word = |at| std::array::from_fn(|index| bytes[at + index]);
    [u64::from_ne_bytes(word(0)), u64::from_ne_bytes(word(8))]
}

pub(crate) fn one(meter: &mut Meter) -> Measured {
    with_worker(|ring| {
        meter.measure(|n| {
            for argument in 0..n {
                ring.send(&bytes([NO_OP, argument]));
                let mut result = [0; 16];
                ring.recv(&mut result);
            }
            Ok(())
        })
    })
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_worker(|ring| {
        meter.measure(|n| {
            let mut result = [0; 16];
            let mut finished = 0;
            for argument in 0..n {
                while !ring.try_send(&bytes([NO_OP, argument])) {
                    ring.recv(&mut result);
                    finished += 1;
                }
            }
            for _ in finished..n {
                ring.recv(&mut result);
            }
            Ok(())
        })
    })
}

fn with_worker(measure: impl FnOnce(&mut Side) -> Measured) -> Measured {
    let cores = cores::pair();
    let (mut ring, fd) = ring::create(waiting(how(cores.is_some())))?;
    let other = cores.map_or(String::new(), |(_, other)| other.to_string());
    let child = role::command("worker", &other, fd)?.spawn()?;
    if let Some((own, _)) = cores {
        cores::pin_to(own)?;
    }
    measure(&mut ring)?;
    ring.send(&bytes([STOP, 0]));
    role::finish(child)
}

fn how(is_apart: bool) -> &'static str {
    if is_apart { "spinning" } else { "sleeping" }
}

/// The worker: the memory is its standard input, the argument its core.
pub(crate) fn serve(core: &str) -> Result<(), Failure> {
    if !core.is_empty() {
        cores::pin_to(core.parse()?)?;
    }
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut ring = ring::open(&file, 1, waiting(how(!core.is_empty())))?;
    loop {
        let mut message = [0; 16];
        ring.recv(&mut message);
        let [function, argument] = task(message);
        match FUNCTIONS.get(function as usize) {
            Some(function) => ring.send(&bytes([NO_OP, function(argument)])),
            None => return Ok(()),
        }
    }
}
