//! A permit's holder or a waiter is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{asleep, given, killed_at, say_thread, start, stay};
use mp_lock::Semaphore;
use mp_test::{guarded, role, say};

#[test]
fn the_permits_of_a_killed_holder_come_back() {
    if role().is_some() {
        let semaphore: Semaphore = given();
        let _permits = (semaphore.acquire(), semaphore.acquire());
        semaphore.acquire().forget();
        say("holding");
        stay();
    }
    guarded(|| {
        let semaphore = Semaphore::new(3).unwrap();
        let test = "the_permits_of_a_killed_holder_come_back";
        let mut holder = start(test, "holder", &semaphore);
        holder.expect("holding");
        assert!(semaphore.try_acquire().is_none(), "the living are not robbed");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(semaphore.acquire()));
            holder.kill();
            waiter.join().unwrap();
        });
        let permits = (semaphore.try_acquire(), semaphore.try_acquire(), semaphore.try_acquire());
        assert!(matches!(permits, (Some(_), Some(_), None)), "the forgotten one is gone");
    });
}

#[test]
fn a_failing_try_takes_from_the_dead_at_once() {
    if role().is_some() {
        let semaphore: Semaphore = given();
        let _permit = semaphore.acquire();
        say("holding");
        stay();
    }
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        let mut holder = start("a_failing_try_takes_from_the_dead_at_once", "holder", &semaphore);
        holder.expect("holding");
        holder.kill();
        assert!(semaphore.try_acquire().is_some());
    });
}

#[test]
fn a_waiter_killed_with_its_wake_strands_nobody() {
    if role().is_some() {
        let semaphore: Semaphore = given();
        say_thread();
        let _permit = semaphore.acquire();
        say("got it");
        stay();
    }
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        let test = "a_waiter_killed_with_its_wake_strands_nobody";
        for _ in 0..5 {
            let permit = semaphore.acquire();
            let mut victim = start(test, "waiter", &semaphore);
            asleep(&mut victim);
            let mut survivor = start(test, "waiter", &semaphore);
            asleep(&mut survivor);
            drop(permit);
            victim.kill();
            survivor.expect("got it");
            survivor.kill();
        }
    });
}

/// Kills at `semaphore.acquire:1` and `semaphore.release:1..=4`: the permit comes back, whatever had happened.
#[test]
fn a_death_at_any_step_loses_no_permit() {
    if role().is_some() {
        drop(given::<Semaphore>().acquire());
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_loses_no_permit";
        let steps = ["semaphore.acquire:1", "semaphore.release:1..=4"];
        killed_at(
            test,
            &steps,
            || Semaphore::new(1).unwrap(),
            |step, semaphore| {
                let permit = semaphore.acquire();
                assert!(semaphore.try_acquire().is_none(), "two permits after {step}");
                drop(permit);
            },
        );
    });
}

/// Kills at `semaphore.sweep:1`: after the dead one's permits were freed, before anybody was told.
#[test]
fn a_sweeper_that_dies_loses_no_permit() {
    match role().as_deref() {
        Some("holder") => {
            let semaphore: Semaphore = given();
            let _permit = semaphore.acquire();
            say("holding");
            stay();
        }
        Some(_) => {
            drop(given::<Semaphore>().acquire());
            say("survived");
            return;
        }
        None => {}
    }
    guarded(|| {
        let test = "a_sweeper_that_dies_loses_no_permit";
        let orphaned = || {
            let semaphore = Semaphore::new(1).unwrap();
            let mut holder = start(test, "holder", &semaphore);
            holder.expect("holding");
            holder.kill();
            semaphore
        };
        killed_at(test, &["semaphore.sweep:1"], orphaned, |_, semaphore| drop(semaphore.acquire()));
    });
}

/// Kills at `semaphore.release:2..=3` (the permit is there, nobody was told, or nobody woken), with a waiter asleep.
#[test]
fn a_waiter_finds_what_a_dead_releaser_did_not_tell() {
    match role().as_deref() {
        Some("waiter") => {
            let semaphore: Semaphore = given();
            say_thread();
            let _permit = semaphore.acquire();
            say("got it");
            stay();
        }
        Some(_) => {
            let semaphore: Semaphore = given();
            let permit = semaphore.acquire();
            say("holding");
            assert_eq!(mp_test::hear().as_deref(), Some("release"));
            drop(permit);
            say("survived");
            return;
        }
        None => {}
    }
    let test = "a_waiter_finds_what_a_dead_releaser_did_not_tell";
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded(|| {
        for step in ["semaphore.release:2", "semaphore.release:3"] {
            let semaphore = Semaphore::new(1).unwrap();
            let mut holder = help::start_with(test, "holder", &semaphore, Some(step));
            holder.expect("holding");
            let mut waiter = start(test, "waiter", &semaphore);
            asleep(&mut waiter);
            holder.tell("release");
            waiter.expect("got it");
            waiter.kill();
            assert_eq!(holder.word(), None);
        }
    });
}

/// Nobody looks after the dead while nobody waits: no thread is there that could.
#[test]
fn a_dead_holder_costs_nothing_while_nobody_waits() {
    if role().is_some() {
        let _permit = given::<Semaphore>().acquire();
        say("holding");
        stay();
    }
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = tasks();
        let mut holder = start("a_dead_holder_costs_nothing_while_nobody_waits", "holder", &semaphore);
        holder.expect("holding");
        holder.kill();
        // Several slices later it is as it was.
        std::thread::sleep(3 * mp_core::deadline::SLICE);
        assert_eq!((semaphore.available_permits(), tasks()), (0, before));
        // And who waits gets it.
        drop(semaphore.acquire());
        assert_eq!(semaphore.available_permits(), 1);
    });
}
