//! Consumers of a queue that can be joined are killed at every step, and with claims in their hands; `join` returns.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{all_steps, child, dies_at, message, signal, state};
use mp_queue::{JoinableQueue, OnDeath, take};
use mp_test::{Role, guarded, hear, role, say, steps_or_say, until};
use rustix::process::Signal;
use std::thread;
use std::time::Duration;

type Tasks = JoinableQueue<Vec<u8>>;

fn tasks() -> Tasks {
    take("end").unwrap()
}

/// Gets three, is done with the first, and keeps the others.
fn hold_two() {
    let queue = tasks();
    (0..3).for_each(|_| drop(queue.get().unwrap()));
    queue.task_done().unwrap();
    say("two are left");
    let _ = hear();
}

#[test]
fn the_claims_of_a_killed_consumer_are_handed_out_again() {
    const TEST: &str = "the_claims_of_a_killed_consumer_are_handed_out_again";
    if role().is_some() {
        return hold_two();
    }
    guarded(|| {
        let queue = Tasks::new().unwrap();
        (0..3).for_each(|n| queue.put(message(n)).unwrap());
        let mut consumer = Role::start(child(TEST, "consumer", &queue));
        consumer.expect("two are left");
        assert!(queue.try_get().unwrap_err().is_empty());
        thread::scope(|scope| {
            let joiner = scope.spawn(|| queue.join().unwrap());
            // This one waits when the other is killed.
            let heir = scope.spawn(|| {
                for n in 1..3 {
                    let (value, claim) = queue.claim().unwrap();
                    assert!(value == message(n));
                    assert_eq!(claim.deliveries(), 2);
                    claim.done().unwrap();
                }
            });
            consumer.kill();
            heir.join().unwrap();
            joiner.join().unwrap();
        });
        assert_eq!(queue.lost(), 0);
    });
}

#[test]
fn the_claims_of_a_killed_consumer_are_counted_lost_where_the_policy_says_so() {
    const TEST: &str = "the_claims_of_a_killed_consumer_are_counted_lost_where_the_policy_says_so";
    if role().is_some() {
        return hold_two();
    }
    guarded(|| {
        let queue = Tasks::with_policy(Some(5), OnDeath::CountLost).unwrap();
        (0..3).for_each(|n| queue.put(message(n)).unwrap());
        let mut consumer = Role::start(child(TEST, "consumer", &queue));
        consumer.expect("two are left");
        assert!(!queue.join_timeout(Duration::from_millis(1)).unwrap());
        thread::scope(|scope| {
            let joiner = scope.spawn(|| queue.join().unwrap());
            consumer.kill();
            joiner.join().unwrap();
        });
        assert_eq!((queue.lost(), queue.unfinished()), (2, 0));
        assert!(queue.try_get().unwrap_err().is_empty());
    });
}

#[test]
fn a_stopped_consumer_is_not_dead() {
    const TEST: &str = "a_stopped_consumer_is_not_dead";
    if role().is_some() {
        return hold_two();
    }
    guarded(|| {
        let queue = Tasks::new().unwrap();
        (0..3).for_each(|n| queue.put(message(n)).unwrap());
        let mut consumer = Role::start(child(TEST, "consumer", &queue));
        consumer.expect("two are left");
        signal(&consumer, Signal::STOP);
        assert!(!queue.join_timeout(Duration::from_millis(250)).unwrap());
        assert!(queue.try_get().unwrap_err().is_empty());
        consumer.kill();
        until("both are back", || {
            queue.len() == 2 || !queue.join_timeout(Duration::from_millis(1)).unwrap() && queue.len() == 2
        });
    });
}

/// The steps of getting and settling, and whether the value is done at it.
fn steps() -> Vec<(String, bool)> {
    let settling = [("queue.settle:1".to_owned(), true), ("queue.settle:3".to_owned(), true)];
    let steps = all_steps(&[("queue.claim", 1..=2), ("queue.get", 1..=3), ("ring.read", 1..=3)]);
    steps.into_iter().map(|step| (step, false)).chain(settling).collect()
}

fn work() {
    let queue = tasks();
    let (value, claim) = queue.claim().unwrap();
    assert!(value == message(0));
    claim.done().unwrap();
}

#[test]
fn a_consumer_killed_at_any_step_has_done_its_task_or_leaves_it_to_another() {
    const TEST: &str = "a_consumer_killed_at_any_step_has_done_its_task_or_leaves_it_to_another";
    if role().is_some() {
        return work();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, done) in steps() {
            for policy in [OnDeath::Redeliver, OnDeath::CountLost] {
                let queue = Tasks::with_policy(None, policy).unwrap();
                (0..2).for_each(|n| queue.put(message(n)).unwrap());
                thread::scope(|scope| {
                    // Sleeps on the claim that is being settled.
                    let joiner = scope.spawn(|| queue.join().unwrap());
                    dies_at(&step, TEST, "consumer", &queue);
                    // Others may have it: it was taken whole or is still there.
                    let mut seen = Vec::new();
                    while queue.unfinished() > 0 {
                        let Ok((value, claim)) = queue.claim_timeout(Duration::from_millis(10)) else {
                            continue;
                        };
                        assert!(value == message(value[0]), "{step}");
                        seen.push(value[0]);
                        claim.done().unwrap();
                    }
                    joiner.join().unwrap();
                    let taken = ["queue.get:2", "queue.get:3", "ring.read:3"].contains(&step.as_str());
                    let lost = taken && policy == OnDeath::CountLost;
                    assert_eq!(queue.lost(), usize::from(lost), "{step} {policy:?}");
                    let again = seen.iter().filter(|n| **n == 0).count();
                    assert_eq!(again, usize::from(!done && !lost), "{step} {policy:?}: {seen:?}");
                    assert!(seen.contains(&1), "{step} {policy:?}: {seen:?}");
                });
            }
        }
    });
}

#[test]
fn a_joiner_asleep_on_a_claim_whose_owner_dies_settling_it_goes_on() {
    const TEST: &str = "a_joiner_asleep_on_a_claim_whose_owner_dies_settling_it_goes_on";
    if role().is_some() {
        let queue = tasks();
        let (_, claim) = queue.claim().unwrap();
        say("claimed");
        let _ = hear();
        return claim.done().unwrap();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("queue.settle", 1..=3)]) {
            let queue = Tasks::new().unwrap();
            queue.put(message(0)).unwrap();
            let mut consumer = child(TEST, "consumer", &queue);
            consumer.env("MP_STEP", &step);
            let mut consumer = Role::start(consumer);
            consumer.expect("claimed");
            let (tell, told) = std::sync::mpsc::channel();
            thread::scope(|scope| {
                let joiner = scope.spawn(|| {
                    tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap();
                    queue.join().unwrap();
                });
                let thread = told.recv().unwrap();
                until("the joiner sleeps", || state(&thread.to_string_lossy()) == "S");
                consumer.tell("go on");
                let status = consumer.wait();
                assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{step}");
                joiner.join().unwrap();
            });
            assert_eq!((queue.lost(), queue.unfinished()), (0, 0), "{step}");
        }
    });
}

#[test]
fn a_consumer_killed_as_it_gives_back_leaves_the_value_to_others() {
    const TEST: &str = "a_consumer_killed_as_it_gives_back_leaves_the_value_to_others";
    if role().is_some() {
        return drop(tasks().claim().unwrap());
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (policy, steps) in
            [(OnDeath::Redeliver, ("queue.return", 1..=2)), (OnDeath::CountLost, ("queue.lost", 1..=3))]
        {
            for step in all_steps(&[steps]) {
                let queue = Tasks::with_policy(None, policy).unwrap();
                queue.put(message(0)).unwrap();
                dies_at(&step, TEST, "consumer", &queue);
                if policy == OnDeath::Redeliver {
                    let (value, claim) = queue.claim().unwrap();
                    assert!(value == message(0), "{step}");
                    claim.done().unwrap();
                }
                queue.join().unwrap();
                let lost = usize::from(policy == OnDeath::CountLost);
                assert_eq!((queue.lost(), queue.unfinished()), (lost, 0), "{step}");
                queue.put(message(1)).unwrap();
                assert!(queue.get().unwrap() == message(1), "{step}");
            }
        }
    });
}

#[test]
fn a_joiner_killed_is_missed_by_nobody() {
    const TEST: &str = "a_joiner_killed_is_missed_by_nobody";
    if role().is_some() {
        return tasks().join().unwrap();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Tasks::new().unwrap();
        queue.put(message(0)).unwrap();
        dies_at("queue.join:1", TEST, "joiner", &queue);
        let (_, claim) = queue.claim().unwrap();
        dies_at("queue.join:1", TEST, "joiner", &queue);
        thread::scope(|scope| {
            scope.spawn(|| queue.join().unwrap());
            claim.done().unwrap();
        });
    });
}
