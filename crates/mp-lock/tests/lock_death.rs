//! A holder or waiter of a `Lock` is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{asleep, given, say_thread, start, start_with, stay};
use mp_lock::{AcquireError, AcquireTimeoutError, Lock};
use mp_test::{Role, command, guarded, role, say};
use std::time::Duration;

#[test]
fn a_killed_holder_is_news_at_once_and_until_recovered() {
    if role().is_some() {
        let lock: Lock = given();
        let _guard = lock.acquire().unwrap();
        say("holding");
        stay();
    }
    guarded(|| {
        let lock = Lock::new().unwrap();
        let mut holder = start("a_killed_holder_is_news_at_once_and_until_recovered", "holder", &lock);
        holder.expect("holding");
        holder.kill();
        assert!(!lock.is_locked(), "the dead hold nothing");
        let guard = match lock.try_acquire() {
            Err(error) => error.into_guard().unwrap(),
            Ok(_) => panic!("no news of the death"),
        };
        guard.release();
        let error = lock.acquire().unwrap_err();
        assert!(matches!(error, AcquireError::OwnerDied(_)));
        error.into_guard().unwrap().mark_recovered();
        drop(lock.acquire().unwrap());
    });
}

#[test]
fn a_waiter_gets_the_lock_of_a_holder_killed_meanwhile() {
    if role().is_some() {
        let lock: Lock = given();
        let _guard = lock.acquire().unwrap();
        say("holding");
        stay();
    }
    guarded(|| {
        let lock = Lock::new().unwrap();
        let mut holder = start("a_waiter_gets_the_lock_of_a_holder_killed_meanwhile", "holder", &lock);
        holder.expect("holding");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock.acquire().map(drop).map_err(AcquireError::into_owned));
            holder.kill();
            assert_eq!(waiter.join().unwrap(), Err(mp_lock::LockError::OwnerDied));
        });
    });
}

#[test]
fn a_second_holder_killed_before_recovery_is_still_news() {
    if role().is_some() {
        let lock: Lock = given();
        let _guard = lock.acquire().or_else(AcquireError::into_guard).unwrap();
        say("holding");
        stay();
    }
    guarded(|| {
        let lock = Lock::new().unwrap();
        for _ in 0..2 {
            let test = "a_second_holder_killed_before_recovery_is_still_news";
            let mut holder = start(test, "holder", &lock);
            holder.expect("holding");
            holder.kill();
        }
        drop(lock.acquire().unwrap_err().into_guard().unwrap());
        drop(lock.acquire_or_recover().unwrap());
        drop(lock.acquire().unwrap());
    });
}

#[test]
fn a_killed_waiter_is_nobodys_business() {
    if role().is_some() {
        let lock: Lock = given();
        say("waiting");
        let _guard = lock.acquire();
        stay();
    }
    guarded(|| {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let mut waiter = start("a_killed_waiter_is_nobodys_business", "waiter", &lock);
        waiter.expect("waiting");
        waiter.kill();
        guard.release();
        drop(lock.acquire().unwrap());
    });
}

/// The waiter that a release wakes is killed before it acts, while a third holds the lock, who then gives it back
/// without a wake. Inside the C library the remaining waiters would sleep for ever.
#[test]
fn a_waiter_killed_after_the_wake_strands_nobody() {
    match role().as_deref() {
        Some("hog") => {
            on_the_first_core();
            say("spinning");
            std::thread::spawn(|| stay());
            loop {
                std::hint::spin_loop();
            }
        }
        Some("victim") => {
            let lock: Lock = given();
            say_thread();
            on_the_first_core();
            // The last in line for a core that another one spins on: the wake comes, its turn to run does not.
            rustix::process::setpriority_process(None, 19).unwrap();
            let _guard = lock.acquire();
            stay();
        }
        Some(_) => {
            let lock: Lock = given();
            say_thread();
            drop(lock.acquire().or_else(AcquireError::into_guard).unwrap());
            say("got it");
            return;
        }
        None => {}
    }
    guarded(|| {
        let test = "a_waiter_killed_after_the_wake_strands_nobody";
        let lock = Lock::new().unwrap();
        let mut hog = Role::start(command(test, "hog"));
        hog.expect("spinning");
        for _ in 0..10 {
            let guard = lock.acquire_or_recover().unwrap();
            let mut victim = start(test, "victim", &lock);
            asleep(&mut victim);
            let mut survivor = start(test, "survivor", &lock);
            asleep(&mut survivor);
            // The wake goes to the first in line.
            guard.release();
            // The barge: taken before the woken one runs, held while it dies, given back without a wake.
            let barge = lock.try_acquire();
            victim.kill();
            drop(barge);
            survivor.expect("got it");
            assert!(survivor.wait().success());
        }
    });
}

fn on_the_first_core() {
    let mut cores = rustix::thread::CpuSet::new();
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    cores.set((0..rustix::thread::CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
    rustix::thread::sched_setaffinity(None, &cores).unwrap();
}

/// Kills at each step of a free mutex's taking and giving back, of `lock.acquire:1..=4` and `lock.release:1..=2`; the next one to acquire gets the lock, with the
/// news exactly when the dead one held it.
#[test]
fn a_death_at_any_step_leaves_the_lock_to_the_next() {
    if role().is_some() {
        let lock: Lock = given();
        let guard = lock.acquire().or_else(AcquireError::into_guard).unwrap();
        guard.release();
        say("survived");
        return;
    }
    if !mp_test::steps_or_say(mp_core::step::enabled(), "a_death_at_any_step_leaves_the_lock_to_the_next") {
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_leaves_the_lock_to_the_next";
        for (step, orphaned, news) in [
            ("lock.acquire:1", true, true),
            ("lock.acquire:2", true, true),
            ("lock.acquire:3", true, true),
            ("lock.acquire:4", true, true),
            ("lock.acquire:4", false, true),
            ("lock.release:1", false, true),
            ("lock.release:2", false, false),
            ("lock.release:2", true, true),
            ("mutex.take:1", false, false),
            ("mutex.take:2", false, false),
            ("mutex.take:3", false, true),
            ("mutex.take:4", false, true),
            ("mutex.take:5", false, true),
            ("mutex.give:1", false, true),
            ("mutex.give:2", false, true),
            ("mutex.give:3", false, true),
            ("mutex.give:5", false, false),
        ] {
            // Where the C library keeps its books in another way it takes all mutexes itself.
            if step.starts_with("mutex") && !cfg!(all(target_env = "gnu", not(mp_force_fallback))) {
                continue;
            }
            let lock = Lock::new().unwrap();
            if orphaned {
                let lock = lock.clone();
                std::thread::spawn(move || std::mem::forget(lock.acquire().unwrap())).join().unwrap();
            }
            let mut dying = start_with(test, "dying", &lock, Some(step));
            assert_eq!(dying.word(), None, "{step} was not reached");
            dying.wait();
            match lock.acquire_timeout(Duration::MAX) {
                Ok(_) => assert!(!news, "no news after {step}"),
                Err(AcquireTimeoutError::OwnerDied(_)) => assert!(news, "news after {step}"),
                Err(error) => panic!("{step}: {error}"),
            }
        }
    });
}

/// Killed between giving the lock back and waking who sleeps for it (`mutex.give:4`), or right behind that.
#[test]
fn a_death_before_the_wake_strands_no_waiter() {
    let test = "a_death_before_the_wake_strands_no_waiter";
    match role().as_deref() {
        Some("waiter") => {
            let lock: Lock = given();
            say_thread();
            drop(lock.acquire().unwrap());
            say("got it");
            return;
        }
        Some(_) => {
            let lock: Lock = given();
            let guard = lock.acquire().unwrap();
            say("holding");
            let _ = mp_test::hear();
            guard.release();
            say("survived");
            return;
        }
        None => {}
    }
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    let steps = if cfg!(all(target_env = "gnu", not(mp_force_fallback))) {
        &["mutex.give:4", "mutex.give:5", "lock.release:2"][..]
    } else {
        &["lock.release:2"]
    };
    guarded(|| {
        for step in steps {
            let lock = Lock::new().unwrap();
            let mut dying = start_with(test, "dying", &lock, Some(step));
            dying.expect("holding");
            let mut waiter = start(test, "waiter", &lock);
            asleep(&mut waiter);
            dying.tell("give it back");
            assert_eq!(dying.word(), None, "{step} was not reached");
            waiter.expect("got it");
            assert!(waiter.wait().success());
            dying.wait();
        }
    });
}
