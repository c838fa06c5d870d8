//! Ten thousand wait at once, in the threads of five processes; or as many as the system lets live, or as there is room for.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, start};
use mp_lock::{Barrier, Condition, Event, Lock, LockError, MAX_WAITERS, Mutex, Semaphore};
use mp_shm::Value;
use mp_test::{guarded, hear, role, say};
use serde::{Deserialize, Serialize};
use std::thread;

const PROCESSES: usize = 5;
const EACH: usize = 2_000;
const PARTIES: usize = 4_001;

#[derive(Clone, Serialize, Deserialize)]
struct All {
    semaphore: Semaphore,
    event: Event,
    condition: Condition,
    told: Mutex<u8>,
    barrier: Barrier,
    lock: Lock,
    /// How many have come, got through, and been told that there are too many.
    come: Value<u64>,
    through: Value<u64>,
    refused: Value<u64>,
}

impl All {
    fn new() -> All {
        All {
            semaphore: Semaphore::new(0).unwrap(),
            event: Event::new().unwrap(),
            condition: Condition::new().unwrap(),
            told: Mutex::new(0).unwrap(),
            barrier: Barrier::new(PARTIES).unwrap(),
            lock: Lock::new().unwrap(),
            come: Value::new(0).unwrap(),
            through: Value::new(0).unwrap(),
            refused: Value::new(0).unwrap(),
        }
    }

    fn wait(&self, kind: &str) {
        self.come.fetch_add(1);
        match kind {
            "semaphore" => drop(self.semaphore.acquire()),
            "event" => self.event.wait(),
            "condition" => {
                let mut guard = self.told.acquire().unwrap();
                match self.condition.wait_until(&mut guard, |told| told.get() == 1) {
                    Ok(()) => {}
                    Err(LockError::TooMany) => _ = self.refused.fetch_add(1),
                    Err(error) => panic!("{error}"),
                }
            }
            "barrier" => _ = self.barrier.wait().unwrap(),
            _ => drop(self.lock.acquire().unwrap()),
        }
        self.through.fetch_add(1);
    }
}

/// In a role: as many threads as were asked for, or as there may be; says how many.
fn crowd(kind: &str) {
    let (all, wanted): (All, usize) = given();
    thread::scope(|scope| {
        let mut here = 0;
        for _ in 0..wanted {
            let one = thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, || all.wait(kind));
            if let Err(error) = one {
                eprintln!("mp-lock: {kind}: {here} threads of {wanted}, then the system refused: {error}");
                break;
            }
            here += 1;
        }
        say(&here.to_string());
        let _ = hear();
    });
    say("all through");
}

/// Starts the crowd, calls `go` when all have come, and sees all of them through; how many they were.
fn run(kind: &str, most: usize, all: &All, go: impl FnOnce(u64)) -> u64 {
    let each = EACH.min(most / PROCESSES);
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| start(TEST, kind, &(all.clone(), each))).collect();
    let started = |process: &mut mp_test::Role| process.word().unwrap().parse::<u64>().unwrap();
    let count = processes.iter_mut().map(started).sum();
    mp_test::until("all have come", || all.come.get() == count);
    go(count);
    for process in &mut processes {
        process.tell("go");
        process.expect("all through");
        assert!(process.wait().success());
    }
    assert_eq!(all.through.get(), count);
    println!("{kind}: {count} waiters");
    count
}

const TEST: &str = "ten_thousand_waiters_all_get_through";

#[test]
#[ignore = "stress: ten thousand threads"]
fn ten_thousand_waiters_all_get_through() {
    if let Some(kind) = role() {
        return crowd(&kind);
    }
    guarded(|| {
        let all = All::new();
        run("semaphore", usize::MAX, &all, |_| all.semaphore.release(2).unwrap());
        assert_eq!(all.semaphore.available_permits(), 2);
        let all = All::new();
        run("event", usize::MAX, &all, |_| all.event.set());
        let all = All::new();
        let held = all.lock.acquire().unwrap();
        run("lock", usize::MAX, &all, |_| held.release());
        let all = All::new();
        // Each one beyond looks after the dead for a place, under the lock: a few of them tell as much as thousands.
        let count = run("condition", MAX_WAITERS + 76, &all, |count| {
            let most = u64::try_from(MAX_WAITERS).unwrap();
            mp_test::until("no more can wait", || all.refused.get() == count.saturating_sub(most));
            all.told.acquire().unwrap().set(1);
            all.condition.notify_all();
        });
        println!("condition: {} of {count} were told that {MAX_WAITERS} is the most", all.refused.get());
        let all = All::new();
        run("barrier", PARTIES - 1, &all, |count| {
            // The rest of the parties come from here.
            thread::scope(|scope| {
                for _ in count..u64::try_from(PARTIES).unwrap() {
                    scope.spawn(|| all.barrier.wait().unwrap());
                }
            });
        });
    });
}
