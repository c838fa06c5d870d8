//! Random kills of whoever uses the locks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "forking, which is the cheapest way to have somebody to kill")]

mod help;

use help::{given, start};
use mp_lock::{
    AcquireError, AcquireTimeoutError, Barrier, Condition, Event, Lock, LockError, Mutex, Once, RLock,
    RwLock, Semaphore,
};
use mp_test::{Watchdog, role, say};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KILLS: u64 = 10_000;
const WORKERS: usize = 4;

#[derive(Clone, Serialize, Deserialize)]
struct All {
    /// Both halves are equal, or the news says that they may not be.
    mutex: Mutex<[u64; 2]>,
    rwlock: RwLock<[u64; 2]>,
    slice: Mutex<[u64]>,
    lock: Lock,
    rlock: RLock,
    /// No more than two inside: each writes its mark into a cell of its permit.
    semaphore: Semaphore,
    condition: Condition,
    cell: Mutex<u64>,
    event: Event,
    polled: Event,
    barrier: Barrier,
    once: Once,
    /// How many operations are done, in all; only for seeing that they go on.
    done: mp_shm::Value<u64>,
}

impl All {
    fn new() -> All {
        All {
            mutex: Mutex::new([0; 2]).unwrap(),
            rwlock: RwLock::new([0; 2]).unwrap(),
            slice: Mutex::zeroed(64).unwrap(),
            lock: Lock::new().unwrap(),
            rlock: RLock::new().unwrap(),
            semaphore: Semaphore::new(2).unwrap(),
            condition: Condition::new().unwrap(),
            cell: Mutex::new(0).unwrap(),
            event: Event::new().unwrap(),
            polled: Event::new().unwrap(),
            barrier: Barrier::new(2).unwrap(),
            once: Once::new().unwrap(),
            done: mp_shm::Value::new(0).unwrap(),
        }
    }
}

/// A small generator: the interleaving is random enough by itself.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One operation of a worker; panics when an invariant is broken without news.
fn operation(all: &All, dice: &mut Dice) {
    const SHORT: Duration = Duration::from_millis(3);
    match dice.roll(10) {
        0 => in_halves(all),
        1 => written_or_read(all, dice.roll(3) == 0),
        2 => {
            if let Ok(permit) = all.semaphore.acquire_timeout(SHORT) {
                drop(permit);
            }
        }
        3 => {
            let mut guard = all.cell.acquire_or_recover(|_| {}).unwrap();
            let _ = all.condition.wait_timeout(&mut guard, SHORT);
        }
        4 => {
            all.cell.acquire_or_recover(|_| {}).unwrap().with(|cell| *cell += 1);
            all.condition.notify(1 + usize::try_from(dice.roll(2)).unwrap());
        }
        5 => {
            let event = if dice.roll(2) == 0 { &all.event } else { &all.polled };
            match dice.roll(3) {
                0 => event.set(),
                1 => event.clear(),
                _ => _ = event.wait_timeout(SHORT),
            }
            if dice.roll(8) == 0 {
                mp_lock::wait(&[&all.polled], Some(Duration::ZERO)).unwrap();
            }
        }
        6 => {
            let outer = all.rlock.acquire_or_recover().unwrap();
            let inner = all.rlock.acquire().unwrap();
            assert_eq!(inner.depth(), 2);
            drop(outer);
            assert_eq!(inner.depth(), 1);
        }
        7 => {
            if all.barrier.wait_timeout(SHORT).is_err() {
                all.barrier.reset();
            }
        }
        8 => all.once.call_once(|| std::thread::sleep(Duration::from_micros(300))).unwrap(),
        _ => {
            let mut guard = all.slice.acquire_or_recover(|values| values.fill(0)).unwrap();
            guard.with(|values| {
                assert!(values.iter().all(|value| *value == values[0]), "changed by halves, without news");
                values.iter_mut().for_each(|value| *value += 1);
            });
            drop(all.lock.acquire_or_recover().unwrap());
        }
    }
    all.done.fetch_add(1);
}

fn in_halves(all: &All) {
    let mut guard = match all.mutex.acquire() {
        Ok(guard) => {
            let [one, two] = guard.get();
            assert_eq!(one, two, "changed by halves, without news");
            guard
        }
        Err(AcquireError::OwnerDied(mut guard)) => {
            guard.with(|halves| halves[1] = halves[0]);
            guard.mark_recovered();
            guard
        }
        Err(error) => panic!("{error}"),
    };
    guard.with(|halves| halves[0] += 1);
    std::hint::spin_loop();
    guard.with(|halves| halves[1] += 1);
}

fn written_or_read(all: &All, writes: bool) {
    let repair = |halves: &mut [u64; 2]| halves[1] = halves[0];
    if writes {
        let mut guard = all.rwlock.write_or_recover(repair).unwrap();
        guard.with(|halves| halves[0] += 1);
        guard.with(|halves| halves[1] += 1);
        return;
    }
    match all.rwlock.read_timeout(Duration::from_millis(50)) {
        Ok(guard) => {
            let [one, two] = guard.get();
            assert_eq!(one, two, "read while it was written, without news");
        }
        Err(AcquireTimeoutError::TimedOut | AcquireTimeoutError::OwnerDied(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Forks one worker; it uses everything until it is killed.
fn worker(all: &All, seed: u64) -> libc::pid_t {
    #[expect(clippy::disallowed_methods, reason = "the cheapest way to have somebody to kill")]
    // SAFETY: this process has no other thread that holds anything the child needs; the child ends by `_exit` or a signal.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return pid;
    }
    let mut dice = Dice(seed | 1);
    let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        loop {
            operation(all, &mut dice);
        }
    }));
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(if used.is_err() { 77 } else { 0 }) }
}

/// Waits for a worker; whether it died of the kill, as it should.
fn was_killed(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// The role: kills workers at random and starts others, and sees that they go on.
fn nursery(all: &All, seed: u64) {
    let mut dice = Dice(seed | 1);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| worker(all, dice.roll(u64::MAX))).collect();
    let mut moved = (all.done.get(), Instant::now());
    for kill in 0..KILLS {
        // Some are killed in their first operation, most in the midst of many.
        std::thread::sleep(Duration::from_micros(dice.roll(600)));
        let place = usize::try_from(dice.roll(WORKERS as u64)).unwrap();
        // SAFETY: a child of this process, not yet waited for.
        unsafe { libc::kill(workers[place], libc::SIGKILL) };
        assert!(was_killed(workers[place]), "kill {kill}: a worker ended by itself");
        workers[place] = worker(all, dice.roll(u64::MAX));
        if all.done.get() != moved.0 {
            moved = (all.done.get(), Instant::now());
        }
        assert!(moved.1.elapsed() < Duration::from_secs(60), "kill {kill}: everybody hangs");
    }
    for pid in workers {
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert!(was_killed(pid));
    }
    say(&format!("{} operations", all.done.get()));
}

/// Hunts: deaths between any two instructions of any operation, while others use the same locks. No hang, no lost wake-up, and
/// what is guarded is whole or flagged.
#[test]
#[ignore = "stress: ten thousand kills"]
fn ten_thousand_random_kills_hang_nobody_and_every_broken_invariant_is_flagged() {
    let test = "ten_thousand_random_kills_hang_nobody_and_every_broken_invariant_is_flagged";
    if let Some(role) = role() {
        return nursery(&given::<All>(), role.parse().unwrap());
    }
    let _watchdog = Watchdog::with_limit(Duration::from_secs(1200));
    let all = All::new();
    let seed = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut role = start(test, &seed.to_string(), &all);
    let word = role.word().unwrap_or_else(|| panic!("the nursery failed, with seed {seed}"));
    assert!(role.wait().success(), "with seed {seed}");
    println!("{KILLS} kills among {word}, seed {seed}");
    // Nobody is left: everything is free, or becomes so.
    let _permits = (all.semaphore.acquire(), all.semaphore.acquire());
    drop(all.lock.acquire_or_recover().unwrap());
    drop(all.rlock.acquire_or_recover().unwrap());
    in_halves(&all);
    written_or_read(&all, true);
    written_or_read(&all, false);
    all.once.call_once(|| {}).unwrap();
    all.barrier.reset();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| all.barrier.wait());
        assert!(all.barrier.wait().is_ok() && other.join().unwrap().is_ok());
        let waiter = scope.spawn(|| all.condition.wait(&mut all.cell.acquire_or_recover(|_| {}).unwrap()));
        mp_test::until("it is woken", || {
            all.condition.notify_one();
            waiter.is_finished()
        });
        assert!(matches!(waiter.join().unwrap(), Ok(()) | Err(LockError::OwnerDied)));
    });
    for event in [&all.event, &all.polled] {
        event.clear();
        assert!(!event.is_set());
        event.set();
        event.wait();
        assert_eq!(mp_lock::wait(&[event], None).unwrap(), [0]);
    }
}

/// Prints how soon a dead permit holder and a dead party are noticed while somebody waits.
#[test]
#[ignore = "stress: a measurement"]
fn how_soon_the_dead_are_noticed() {
    if role().is_some() {
        let (semaphore, barrier): (Semaphore, Barrier) = given();
        let _permit = semaphore.acquire();
        let _party = barrier.join_party().unwrap();
        say("holding");
        help::stay();
    }
    mp_test::guarded(|| {
        let died = AtomicU64::new(0);
        let begin = Instant::now();
        let now = || u64::try_from(begin.elapsed().as_micros()).unwrap();
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..20 {
            let both = (Semaphore::new(1).unwrap(), Barrier::new(2).unwrap());
            let mut holder = start("how_soon_the_dead_are_noticed", "holder", &both);
            holder.expect("holding");
            std::thread::scope(|scope| {
                let permit = scope.spawn(|| {
                    drop(both.0.acquire());
                    now() - died.load(Ordering::SeqCst)
                });
                let party = scope.spawn(|| {
                    assert!(both.1.wait().is_err());
                    now() - died.load(Ordering::SeqCst)
                });
                std::thread::sleep(Duration::from_millis(200 + 7 * round));
                died.store(now(), Ordering::SeqCst);
                holder.kill();
                took[0].push(permit.join().unwrap());
                took[1].push(party.join().unwrap());
            });
        }
        for (what, took) in ["permit", "party"].iter().zip(&mut took) {
            took.sort_unstable();
            println!(
                "a dead {what}: after {} us at the median, {} us at the worst",
                took[took.len() / 2],
                took[took.len() - 1]
            );
        }
    });
}
