//! Whoever uses an `RLock`, a `Mutex`, a `Once` or a `Condition` is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{asleep, given, killed_at, say_thread, start, stay};
use mp_lock::{Condition, Lock, Mutex, Once, RLock};
use mp_test::{guarded, role, say};

#[test]
fn a_killed_holder_of_an_rlock_is_news() {
    if role().is_some() {
        let lock: RLock = given();
        let _twice = (lock.acquire().unwrap(), lock.acquire().unwrap());
        say("holding");
        stay();
    }
    guarded(|| {
        let lock = RLock::new().unwrap();
        let mut holder = start("a_killed_holder_of_an_rlock_is_news", "holder", &lock);
        holder.expect("holding");
        holder.kill();
        let guard = lock.acquire().unwrap_err().into_guard().unwrap();
        assert_eq!(guard.depth(), 1);
    });
}

#[test]
fn a_mutex_half_changed_by_the_dead_is_news_until_repaired() {
    if role().is_some() {
        let mutex: Mutex<[u64; 2]> = given();
        let mut guard = mutex.acquire().unwrap();
        guard.with(|value| {
            value[0] += 1;
            say("half-way");
            stay();
        });
    }
    guarded(|| {
        let mutex = Mutex::new([5_u64, 5]).unwrap();
        let test = "a_mutex_half_changed_by_the_dead_is_news_until_repaired";
        let mut holder = start(test, "holder", &mutex);
        holder.expect("half-way");
        holder.kill();
        assert_eq!(mutex.acquire().unwrap_err().into_guard().unwrap().get(), [6, 5]);
        let guard = mutex.acquire_or_recover(|value| value[1] = value[0]).unwrap();
        assert_eq!(guard.get(), [6, 6]);
        drop(guard);
        drop(mutex.acquire().unwrap());
    });
}

/// Kills at `once.call:1..=3`: until the store it is not done, and the next caller does it.
#[test]
fn a_once_whose_runner_died_is_run_by_the_next() {
    if role().is_some() {
        given::<Once>().call_once(|| {}).unwrap();
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_once_whose_runner_died_is_run_by_the_next";
        killed_at(
            test,
            &["once.call:1..=3"],
            || Once::new().unwrap(),
            |step, once| {
                let mut ran = false;
                once.call_once(|| ran = true).unwrap();
                assert_eq!(ran, step != "once.call:3", "{step}");
                assert!(once.is_completed());
            },
        );
    });
}

#[test]
fn killed_waiters_of_a_condition_are_passed_over() {
    if role().is_some() {
        let (condition, lock): (Condition, Lock) = given();
        let mut guard = lock.acquire().unwrap();
        say_thread();
        condition.wait(&mut guard).unwrap();
        say("notified");
        stay();
    }
    guarded(|| {
        let test = "killed_waiters_of_a_condition_are_passed_over";
        let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
        let both = (condition.clone(), lock.clone());
        let mut dead: Vec<_> = (0..2).map(|_| start(test, "waiter", &both)).collect();
        dead.iter_mut().for_each(asleep);
        let mut living = start(test, "waiter", &both);
        asleep(&mut living);
        for waiter in &mut dead {
            waiter.kill();
        }
        // The mark goes to the one that waits longest, who is dead; it must come to the living one.
        condition.notify_one();
        living.expect("notified");
        living.kill();
        condition.notify_all();
        drop(lock.acquire_or_recover().unwrap());
        assert_eq!(
            condition.wait_timeout(&mut lock.acquire().unwrap(), std::time::Duration::ZERO),
            Ok(false)
        );
    });
}

/// Kills at `condition.wait:1..=5`: neither the lock nor a notification is lost.
#[test]
fn a_waiter_killed_at_any_step_strands_nobody() {
    match role().as_deref() {
        Some("living") => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().or_else(mp_lock::AcquireError::into_guard).unwrap();
            guard.mark_recovered();
            say_thread();
            condition.wait(&mut guard).unwrap();
            say("notified");
            return;
        }
        Some(_) => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().unwrap();
            // Its own time-out takes it past the sleep.
            let _ = condition.wait_timeout(&mut guard, std::time::Duration::from_millis(1));
            say("survived");
            return;
        }
        None => {}
    }
    guarded(|| {
        let test = "a_waiter_killed_at_any_step_strands_nobody";
        let both = || (Condition::new().unwrap(), Lock::new().unwrap());
        killed_at(test, &["condition.wait:1..=5"], both, |_, (condition, lock)| {
            let mut living = start(test, "living", &(condition.clone(), lock.clone()));
            asleep(&mut living);
            condition.notify_one();
            living.expect("notified");
            assert!(living.wait().success());
            drop(lock.acquire().unwrap());
        });
    });
}

/// Kills at `condition.notify:1..=3`, and at the last step of one who notifies all, with a waiter asleep: it is woken once the mark is there, told or not.
#[test]
fn a_notifier_killed_at_any_step_has_notified_or_not() {
    match role().as_deref() {
        Some("waiter") => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().unwrap();
            say_thread();
            condition.wait(&mut guard).unwrap();
            say("notified");
            return;
        }
        Some(_) => {
            let (condition, _lock): (Condition, Lock) = given();
            match std::env::var("MP_STEP").as_deref() {
                Ok("condition.notify:4") => condition.notify_all(),
                _ => condition.notify_one(),
            }
            say("survived");
            return;
        }
        None => {}
    }
    guarded(|| {
        let test = "a_notifier_killed_at_any_step_has_notified_or_not";
        let waiter = std::cell::RefCell::new(None);
        let waited_for = || {
            let both = (Condition::new().unwrap(), Lock::new().unwrap());
            let mut role = start(test, "waiter", &both);
            asleep(&mut role);
            *waiter.borrow_mut() = Some(role);
            both
        };
        killed_at(test, &["condition.notify:1..=4"], waited_for, |step, (condition, _lock)| {
            if step == "condition.notify:1" {
                condition.notify_one();
            }
            let mut waiter = waiter.borrow_mut().take().unwrap();
            waiter.expect("notified");
            assert!(waiter.wait().success());
        });
    });
}

/// Kills at `condition.sweep:1..=2` whoever passes a dead one's mark on: the mark is passed on all the same.
#[test]
fn a_mark_outlives_the_one_who_passes_it_on() {
    match role().as_deref() {
        Some("victim") => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().unwrap();
            say_thread();
            // Marked and stopped, so that it is killed with the mark.
            let _ = condition.wait(&mut guard);
            stay();
        }
        Some("living") => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().unwrap();
            say_thread();
            condition.wait(&mut guard).unwrap();
            say("notified");
            return;
        }
        Some(_) => {
            let (condition, lock): (Condition, Lock) = given();
            let mut guard = lock.acquire().unwrap();
            let _ = condition.wait_timeout(&mut guard, std::time::Duration::from_secs(5));
            say("survived");
            return;
        }
        None => {}
    }
    guarded(|| {
        let test = "a_mark_outlives_the_one_who_passes_it_on";
        let living = std::cell::RefCell::new(None);
        let marked_and_dead = || {
            let both = (Condition::new().unwrap(), Lock::new().unwrap());
            let mut victim = start(test, "victim", &both);
            asleep(&mut victim);
            let mut waiter = start(test, "living", &both);
            asleep(&mut waiter);
            stop(victim.pid());
            // And the living one, so that it is not he who finds the dead one's mark.
            stop(waiter.pid());
            both.0.notify_one();
            victim.kill();
            *living.borrow_mut() = Some(waiter);
            both
        };
        killed_at(test, &["condition.sweep:1..=2"], marked_and_dead, |_, _| {
            let mut waiter = living.borrow_mut().take().unwrap();
            signal(waiter.pid(), rustix::process::Signal::CONT);
            waiter.expect("notified");
            assert!(waiter.wait().success());
        });
    });
}

/// Stops a process, and waits until all of it stands still.
fn stop(pid: u32) {
    signal(pid, rustix::process::Signal::STOP);
    mp_test::until("it stands still", || {
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    });
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
