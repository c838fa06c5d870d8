//! Many pairs at once, on fewer cores: whoever spins takes the core from one who has something to do.
//!
//! Each pair is two processes of its own. Its first is this program again as `--role crowd "PAIR NAME"`; it runs the loop of a
//! contestant that is measured alone elsewhere, and counts in the shared page until it is told to stop.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured, Stop};
use crate::meter::Meter;
use crate::{cpu, limit, ours, peers, role};

/// Pairs of processes.
const PAIRS: usize = 8;

type Member = (&'static str, fn(&mut Meter) -> Measured);

const MEMBERS: &[Member] = &[
    ("pipe()", ours::pipe::round_trip),
    ("Queue", ours::queue::round_trip),
    ("Semaphore", ours::hand_over::semaphore),
    ("Event", ours::hand_over::event),
    ("ring, no spinning", limit::links::round_trip_sleeping),
    ("ring, 2,000 pauses", limit::links::round_trip),
    ("pipe of the kernel", peers::kernel::pipe_round_trip),
    ("Unix socket", peers::kernel::socket_round_trip),
    ("ipc-channel", peers::ipc_channel::round_trip),
];

/// An operation is one of any pair.
pub(crate) fn measure(meter: &mut Meter, name: &str) -> Measured {
    let (arena, fd) = Arena::create()?;
    let pairs = (0..PAIRS)
        .map(|pair| Ok(role::command("crowd", &format!("{pair} {name}"), fd.try_clone()?)?.spawn()?))
        .collect::<Result<Vec<_>, Failure>>()?;
    let all = || (0..PAIRS).map(|pair| arena.operations(pair)).sum::<u64>();
    while (0..PAIRS).any(|pair| arena.operations(pair) == 0) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (cpu, begun, start) = (cpu::used(), all(), Instant::now());
    while meter.wants_more(start.elapsed()) {
        let (batch, before) = (Instant::now(), all());
        std::thread::sleep(meter.batch);
        let operations = (all() - before).max(1);
        meter.sample.batches.push(batch.elapsed().as_nanos() as f64 / operations as f64);
    }
    meter.sample.ops = all() - begun;
    meter.sample.cpu = cpu::used().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    arena.stop();
    pairs.into_iter().try_for_each(role::finish)
}

/// The first process of a pair: the page is its standard input.
pub(crate) fn serve(argument: &str) -> Result<(), Failure> {
    let (pair, name) = argument.split_once(' ').ok_or("a pair and a name")?;
    let member = MEMBERS.iter().find(|(one, _)| *one == name).ok_or(format!("no member `{name}`"))?;
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let mut meter = Meter::of_a_crowd(arena, pair.parse()?);
    (member.1)(&mut meter).map_err(|stop| match stop {
        Stop::Failed(failure) => failure,
        Stop::Skipped(why) => why.into(),
    })
}
