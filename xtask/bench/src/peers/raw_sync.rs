//! raw_sync: a mutex in shared memory that a killed holder leaves locked for ever.
#![expect(unsafe_code, reason = "the crate's own constructors are unsafe")]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::fd::AsFd;

use raw_sync::locks::{LockImpl, LockInit, Mutex};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::limit::mutex::shared;
use crate::meter::Meter;
use crate::{cores, fight, role};

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let mut memory = shared(4096)?;
    let memory = memory.as_mut_ptr();
    assert!(Mutex::size_of(Some(memory)) <= 2048, "half the page is the lock's, half the data's");
    // SAFETY: within the page.
    let data = unsafe { memory.add(2048) };
    // SAFETY: both parts are mapped until this function ends, and nobody else has them.
    let (mutex, _) = unsafe { Mutex::new(memory, data) }.map_err(|error| format!("raw_sync: {error}"))?;
    meter.measure(|n| {
        for _ in 0..n {
            black_box(mutex.lock().map_err(|error| format!("raw_sync: {error}"))?);
        }
        Ok(())
    })
}

fn turn(mutex: &dyn LockImpl, inside: &mut dyn FnMut()) -> Result<(), Failure> {
    let _guard = mutex.lock().map_err(|error| format!("raw_sync: {error}"))?;
    inside();
    Ok(())
}

pub(crate) fn fight(meter: &mut Meter) -> Measured {
    let (arena, fd) = Arena::create()?;
    let room = arena.room();
    // SAFETY: the second half of the page is large enough, and nobody else has it yet.
    let (mutex, _) = unsafe { Mutex::new(room, room) }.map_err(|error| format!("raw_sync: {error}"))?;
    let child = role::command("raw_sync", "", fd)?.spawn()?;
    fight::measure(meter, &arena, |inside| turn(&*mutex, inside))?;
    role::finish(child)?;
    fight::check(&arena)
}

/// The second process: the memory is its standard input.
pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let room = arena.room();
    // SAFETY: the first process has initialised it before it started this one.
    let opened = unsafe { Mutex::from_existing(room, room) };
    let (mutex, _) = opened.map_err(|error| format!("raw_sync: {error}"))?;
    fight::serve(&arena, |inside| turn(&*mutex, inside))
}
