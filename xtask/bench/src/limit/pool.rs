//! The limit of a pool: an array of arguments and one of results in shared memory, and workers that count through them.
//!
//! `published`, `next` and `done` count tasks since the start, modulo the array. Invariant: `done <= next <= published <=
//! done + TASKS` whenever the owner publishes, as it publishes a batch only when the one before is done. A worker owns what it
//! has moved `next` over; the release of `published` pairs with its acquire load, that of `done` with the owner's.
//!
//! Workers without work sleep on a word that the owner changes with each publishing when one of them has said so; the owner
//! sleeps on a word that who finishes its `target`th task changes. A slice bounds what could go wrong.
#![expect(unsafe_code, reason = "arrays in memory that processes share")]

use std::cell::UnsafeCell;
use std::fs::File;
use std::hint::{black_box, spin_loop};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::futex;

use crate::contestant::{Failure, Measured, Stop};
use crate::meter::Meter;
use crate::work::{self, TASK};
use crate::{role, watchdog};

/// The most that a batch holds.
const TASKS: usize = 1 << 21;
/// Items that a worker takes at once from many, and after which the owner tells of them.
const CHUNK: u64 = 4096;
const SLICE: Duration = Duration::from_millis(100);
/// Pauses before a side sleeps.
const SPINS: u32 = 2000;

const FUNCTIONS: [fn(u64) -> u64; 2] = [black_box, work::busy];
const NO_OP: u32 = 0;
const BUSY: u32 = 1;

/// Alone in its cache line, and in the one that the processor fetches along.
#[repr(C, align(128))]
struct Count(AtomicU64);

#[repr(C, align(128))]
struct Word(AtomicU32);

#[repr(C)]
struct Memory {
    published: Count,
    next: Count,
    done: Count,
    target: Count,
    /// What the workers sleep on, and how many may be asleep.
    news: Word,
    sleepers: Word,
    finished: Word,
    stop: Word,
    /// What all tasks call, and how many of them a worker takes at once.
    function: Word,
    chunk: Word,
    arguments: [UnsafeCell<u64>; TASKS],
    results: [UnsafeCell<u64>; TASKS],
}

/// The memory, mapped.
struct Shared(MmapRaw);

impl Shared {
    fn create() -> io::Result<(Self, OwnedFd)> {
        let file = File::from(memfd_create("bench-pool", MemfdFlags::CLOEXEC)?);
        file.set_len(size_of::<Memory>() as u64)?;
        Ok((Self::open(&file)?, file.into()))
    }

    fn open(file: &File) -> io::Result<Self> {
        let map = MmapRaw::map_raw(file)?;
        assert_eq!(map.len(), size_of::<Memory>(), "the file holds the arrays");
        Ok(Self(map))
    }

    fn get(&self) -> &Memory {
        // SAFETY: mapped as long as `self`, as long as was checked, aligned to a page; zeroes are one; all fields are atomics or cells.
        unsafe { &*self.0.as_ptr().cast::<Memory>() }
    }
}

fn sleep(word: &AtomicU32, seen: u32) {
    let slice = futex::Timespec { tv_sec: 0, tv_nsec: SLICE.subsec_nanos().into() };
    // Changed meanwhile, interrupted, or too long: the caller looks again in each case.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&slice));
}

fn wake(word: &AtomicU32) {
    word.fetch_add(1, Ordering::SeqCst);
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

impl Memory {
    /// The cells of task `at`.
    fn cells(&self, at: u64) -> (*mut u64, *mut u64) {
        let at = at as usize % TASKS;
        (self.arguments[at].get(), self.results[at].get())
    }

    fn publish(&self, upto: u64) {
        // In one order with the look at the sleepers, as their count is with their look at this.
        self.published.0.store(upto, Ordering::SeqCst);
        if self.sleepers.0.load(Ordering::SeqCst) != 0 {
            wake(&self.news.0);
        }
    }

    /// The owner's: `n` tasks, told of `each` at a time, and all of their results.
    fn run(&self, n: u64, each: u64, results: &mut Vec<u64>) {
        let start = self.published.0.load(Ordering::Relaxed);
        assert!(n as usize <= TASKS, "a batch fits");
        self.target.0.store(start + n, Ordering::Relaxed);
        for number in 0..n {
            let (argument, _) = self.cells(start + number);
            // SAFETY: the owner's own by the invariant: not published yet.
            unsafe { argument.write(number) };
            if (number + 1) % each == 0 {
                self.publish(start + number + 1);
            }
        }
        self.publish(start + n);
        self.await_done(start + n);
        results.clear();
        results.extend((start..start + n).map(|at| {
            let (_, result) = self.cells(at);
            // SAFETY: done, and so the owner's again.
            unsafe { result.read() }
        }));
    }

    fn await_done(&self, target: u64) {
        for _ in 0..SPINS {
            if self.done.0.load(Ordering::Acquire) >= target {
                return;
            }
            spin_loop();
        }
        loop {
            let seen = self.finished.0.load(Ordering::SeqCst);
            if self.done.0.load(Ordering::SeqCst) >= target {
                return;
            }
            sleep(&self.finished.0, seen);
        }
    }

    /// A worker's: until it is told to stop.
    fn work(&self) {
        let chunk = u64::from(self.chunk.0.load(Ordering::Relaxed));
        let function = FUNCTIONS[self.function.0.load(Ordering::Relaxed) as usize];
        while self.stop.0.load(Ordering::Relaxed) == 0 {
            let Some((from, upto)) = self.take(chunk) else {
                self.await_news();
                continue;
            };
            for at in from..upto {
                let (argument, result) = self.cells(at);
                // SAFETY: taken, and so this worker's until it is done.
                let value = function(unsafe { argument.read() });
                // SAFETY: as above.
                unsafe { result.write(value) };
            }
            let done = self.done.0.fetch_add(upto - from, Ordering::SeqCst) + upto - from;
            if done == self.target.0.load(Ordering::Relaxed) {
                wake(&self.finished.0);
            }
        }
    }

    fn take(&self, chunk: u64) -> Option<(u64, u64)> {
        let mut from = self.next.0.load(Ordering::Relaxed);
        loop {
            let published = self.published.0.load(Ordering::Acquire);
            if from >= published {
                return None;
            }
            let upto = published.min(from + chunk);
            match self.next.0.compare_exchange_weak(from, upto, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((from, upto)),
                Err(now) => from = now,
            }
        }
    }

    fn await_news(&self) {
        let has_news = || {
            self.next.0.load(Ordering::SeqCst) < self.published.0.load(Ordering::SeqCst)
                || self.stop.0.load(Ordering::SeqCst) != 0
        };
        for _ in 0..SPINS {
            if has_news() {
                return;
            }
            spin_loop();
        }
        let seen = self.news.0.load(Ordering::SeqCst);
        self.sleepers.0.fetch_add(1, Ordering::SeqCst);
        if !has_news() {
            sleep(&self.news.0, seen);
        }
        self.sleepers.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn end(&self) {
        self.stop.0.store(1, Ordering::SeqCst);
        wake(&self.news.0);
    }
}

pub(crate) fn chunks(meter: &mut Meter) -> Measured {
    with_workers(meter, NO_OP, CHUNK, CHUNK)
}

pub(crate) fn busy_chunks(meter: &mut Meter) -> Measured {
    // A millisecond of work.
    let chunk = 1_000_000 / TASK.as_nanos() as u64;
    with_workers(meter, BUSY, chunk, chunk)
}

pub(crate) fn busy_one_by_one(meter: &mut Meter) -> Measured {
    with_workers(meter, BUSY, 1, 1)
}

fn with_workers(meter: &mut Meter, function: u32, chunk: u64, each: u64) -> Measured {
    let (shared, fd) = Shared::create()?;
    let memory = shared.get();
    memory.function.0.store(function, Ordering::Relaxed);
    memory.chunk.0.store(chunk as u32, Ordering::Relaxed);
    let workers = (0..available_parallelism()?.get())
        .map(|_| Ok(role::command("pool-worker", "", fd.try_clone()?)?.spawn()?))
        .collect::<Result<Vec<Child>, Failure>>()?;
    let mut results = Vec::new();
    meter.measure(|n| {
        memory.run(n, each, &mut results);
        work::check(&results)
    })?;
    memory.end();
    workers.into_iter().try_for_each(role::finish)
}

/// A worker: the memory is its standard input.
pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    let shared = Shared::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    shared.get().work();
    Ok(())
}

/// From nothing to a first result: workers that a small process forks, as a fork server does.
pub(crate) fn start(meter: &mut Meter) -> Measured {
    super::zygote::with_zygote("pool-zygote", |socket| {
        meter.measure_each(|| -> Result<u64, Stop> {
            let start = crate::meter::clock();
            let (shared, fd) = Shared::create()?;
            shared.get().chunk.0.store(1, Ordering::Relaxed);
            super::memory::give(socket, &fd.into())?;
            let mut results = Vec::new();
            shared.get().run(1, 1, &mut results);
            let took = crate::meter::clock() - start;
            work::check(&results)?;
            shared.get().end();
            Ok(took)
        })
    })
}

/// The small process: for each memory that comes it forks as many workers as there are cores.
pub(crate) fn serve_zygote(_: &str) -> Result<(), Failure> {
    let socket = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let workers = available_parallelism()?.get();
    while let Some(file) = super::memory::take(&socket)? {
        for _ in 0..workers {
            super::zygote::fork(|| {
                let shared = watchdog::die_with_parent().and_then(|()| Shared::open(&file));
                if let Ok(shared) = shared {
                    shared.get().work();
                }
            })?;
        }
        super::zygote::reap();
    }
    Ok(())
}
