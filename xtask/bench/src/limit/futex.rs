//! The limit of a hand-over: two words, each given by an exchange and awaited on a futex.

use std::fs::File;
use std::hint::spin_loop;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::futex;

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::{cores, role, waiting};

const TAKEN: u32 = 0;
const GIVEN: u32 = 1;
const SLEEPS: u32 = 2;

/// The words of the two sides.
const WORDS: [usize; 2] = [8, 9];
const SLICE: Duration = Duration::from_millis(100);

fn give(word: &AtomicU32) {
    if word.swap(GIVEN, Ordering::AcqRel) == SLEEPS {
        let _ = futex::wake(word, futex::Flags::empty(), 1);
    }
}

fn take(word: &AtomicU32, spins: u32) {
    for _ in 0..spins {
        if word.load(Ordering::Acquire) == GIVEN {
            break;
        }
        spin_loop();
    }
    let slice = rustix::fs::Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE.subsec_nanos()) };
    loop {
        match word.compare_exchange(TAKEN, SLEEPS, Ordering::AcqRel, Ordering::Acquire) {
            Err(GIVEN) => break,
            Ok(_) | Err(_) => {
                let _ = futex::wait(word, futex::Flags::empty(), SLEEPS, Some(&slice));
            }
        }
    }
    word.store(TAKEN, Ordering::Relaxed);
}

pub(crate) fn spinning(meter: &mut Meter) -> Measured {
    measure(meter, 2000)
}

pub(crate) fn sleeping(meter: &mut Meter) -> Measured {
    measure(meter, 0)
}

fn measure(meter: &mut Meter, spins: u32) -> Measured {
    let (arena, fd) = Arena::create()?;
    let child = role::command("futex", &spins.to_string(), fd)?.spawn()?;
    let [there, here] = WORDS.map(|word| arena.u32(word));
    let round = || {
        give(there);
        take(here, spins);
    };
    // The other side is there before a batch is timed.
    round();
    meter.measure(|n| {
        (0..n).for_each(|_| round());
        Ok(())
    })?;
    arena.stop();
    give(there);
    role::finish(child)
}

/// No spinning, and no slice.
pub(crate) fn waiting(meter: &mut Meter) -> Measured {
    let (arena, fd) = Arena::create()?;
    let child = role::command("futex-waker", "", fd)?.spawn()?;
    let word = arena.u32(WORDS[0]);
    waiting::measure(meter, &arena, || {
        while word.load(Ordering::Acquire) == TAKEN {
            let _ = futex::wait(word, futex::Flags::empty(), TAKEN, None);
        }
        Ok(())
    })?;
    role::finish(child)
}

pub(crate) fn serve_waiter(_: &str) -> Result<(), Failure> {
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    waiting::serve(&arena, || {
        let word = arena.u32(WORDS[0]);
        word.store(GIVEN, Ordering::Release);
        futex::wake(word, futex::Flags::empty(), 1)?;
        Ok(())
    })
}

/// The second process: the memory is its standard input.
pub(crate) fn serve(spins: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let (spins, [here, there]) = (spins.parse()?, WORDS.map(|word| arena.u32(word)));
    loop {
        take(here, spins);
        if arena.is_stopped() {
            return Ok(());
        }
        give(there);
    }
}
