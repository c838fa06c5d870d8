//! Somebody writes over the memory of a lock: every operation ends, as it likes, and hurts nobody who has not written there.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::start;
use mp_lock::{Barrier, BoundedSemaphore, Condition, Event, Lock, Mutex, Once, RLock, RwLock, Semaphore};
use mp_shm::SharedMemory;
use mp_test::{guarded, role, say};
use std::time::Duration;

const SIZE: usize = 256 << 10;
const LONG: Duration = Duration::from_millis(1);

/// Numbers that look like chance, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// The first byte that is written over: all that is not the segment's own header. Where the C library's layout of a mutex is not known, it
/// believes what stands there (docs/safety.md), and the mutex is passed over.
const FIRST: usize = if cfg!(all(target_env = "gnu", not(mp_force_fallback))) { 64 } else { 64 + 128 };

/// Writes over the memory from `from` on: some words of it, or all.
fn damage(random: &mut Random, memory: &SharedMemory, from: usize) {
    let words = match random.below(4) {
        0 => return (from..SIZE).step_by(8).for_each(|at| write(memory, at, 0)),
        1 => return (from..SIZE).step_by(8).for_each(|at| write(memory, at, u64::MAX)),
        2 => 1,
        _ => 64,
    };
    for _ in 0..words {
        // Mostly in the first few hundred bytes, where the states are.
        let reach = if random.below(4) == 0 { SIZE - from } else { 320 };
        let value = match random.below(4) {
            0 => random.next(),
            1 => random.next() & 0xffff_ffff,
            2 => u64::from(std::process::id()) << 32 | random.next() & 7,
            _ => random.next() & 0xff,
        };
        write(memory, from + random.below(reach) / 8 * 8, value);
    }
}

fn write(memory: &SharedMemory, at: usize, value: u64) {
    memory.atomic_u64(at).store(value, std::sync::atomic::Ordering::Relaxed);
}

/// Damages one of each kind: free, then held, then given back; and uses it each time.
fn attack(kind: usize, memory: &SharedMemory, random: &mut Random) {
    macro_rules! attack {
        ($new:expr, |$held:ident| $hold:expr, |$one:ident| $use:expr) => {{
            let $one = $new.unwrap();
            let $held = $one.clone();
            if random.below(2) == 0 {
                damage(random, memory, FIRST);
                drop($use);
            }
            let guard = $hold;
            damage(random, memory, FIRST);
            drop($use);
            drop(guard);
            drop($use);
        }};
    }
    match kind {
        0 => attack!(Lock::new_in(memory, 0), |held| held.acquire_timeout(LONG), |one| {
            drop(one.acquire_timeout(LONG));
            drop(one.try_acquire());
            format!("{one:?} {}", one.is_locked())
        }),
        1 => attack!(RLock::new_in(memory, 0), |held| held.acquire_timeout(LONG), |one| {
            drop(one.acquire_timeout(LONG));
            drop(one.try_acquire());
            format!("{one:?}")
        }),
        2 => attack!(Mutex::new_in(memory, 0, 7_u64), |held| held.acquire_timeout(LONG), |one| {
            drop(one.acquire_timeout(LONG).map(|mut guard| guard.with(|value| *value = 1)));
            format!("{one:?}")
        }),
        3 => {
            attack!(Mutex::from_slice_in(memory, 0, &[7_u64; 99]), |held| held.acquire_timeout(LONG), |one| {
                drop(one.acquire_timeout(LONG).map(|mut guard| guard.with(|values| values.fill(1))));
                format!("{one:?}")
            })
        }
        4 => attack!(RwLock::new_in(memory, 0, 7_u64), |held| held.read_timeout(LONG), |one| {
            drop(one.read_timeout(LONG));
            drop(one.write_timeout(LONG));
            format!("{one:?}")
        }),
        5 => attack!(RwLock::new_in(memory, 0, 7_u64), |held| held.write_timeout(LONG), |one| {
            drop(one.read_timeout(LONG));
            drop(one.write_timeout(LONG));
            format!("{one:?}")
        }),
        6 => attack!(Semaphore::new_in(memory, 0, 3), |held| held.try_acquire(), |one| {
            drop(one.acquire_timeout(LONG));
            drop(one.try_acquire());
            let _ = one.release(1);
            format!("{one:?}")
        }),
        7 => attack!(BoundedSemaphore::new_in(memory, 0, 3), |held| held.try_acquire(), |one| {
            drop(one.acquire_timeout(LONG));
            let _ = one.release(1);
            format!("{one:?}")
        }),
        8 => attack!(Event::new_in(memory, 0), |held| held.clone(), |one| {
            let _ = one.wait_timeout(LONG);
            one.set();
            one.clear();
            format!("{one:?} {}", one.is_set())
        }),
        9 => {
            let lock = Lock::new().unwrap();
            attack!(Condition::new_in(memory, 0), |held| held.clone(), |one| {
                let _ = one.wait_timeout(&mut lock.acquire().unwrap(), LONG);
                one.notify(2);
                one.notify_all();
                format!("{one:?}")
            })
        }
        10 => attack!(Once::new_in(memory, 0), |held| held.clone(), |one| {
            format!("{one:?} {}", one.is_completed())
        }),
        _ => attack!(Barrier::new_in(memory, 0, 3, LONG), |held| held.clone(), |one| format!("{one:?}")),
    }
}

#[test]
fn a_lock_that_was_written_over_ends_every_operation_and_hurts_nobody() {
    let test = "a_lock_that_was_written_over_ends_every_operation_and_hurts_nobody";
    if role().is_some() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let rounds = if std::env::var_os("MP_STRESS_SECONDS").is_some() { 100 } else { 8 };
        for round in 0..rounds {
            for kind in 0..12 {
                let name = format!("mp-test-{}-damaged-{round}-{kind}", std::process::id());
                let memory = SharedMemory::create(&name, SIZE).unwrap();
                let one = || {
                    attack(kind, &memory, &mut random);
                    drop(memory);
                    // This thread's list of what it holds is whole.
                    let [first, second] = [Lock::new().unwrap(), Lock::new().unwrap()];
                    drop((first.acquire().unwrap(), second.acquire().unwrap()));
                    assert!(!first.is_locked() && !second.is_locked());
                };
                // In a thread of its own: what was damaged may stay held by it.
                std::thread::scope(|scope| scope.spawn(one).join()).unwrap();
            }
        }
        say("unharmed");
        return;
    }
    guarded(|| {
        let mut process = start(test, "damaged", &0_u8);
        process.expect("unharmed");
        assert!(process.wait().success());
    });
}
