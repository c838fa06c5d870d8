//! Who polls, and who rings, is killed at every step; another one who polls misses nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{all_steps, child, dies_at, stops_at};
use mp_queue::{Queue, Receiver, Sender, Waitable, take, wait};
use mp_test::{Role, guarded, hear, role, say, steps_or_say};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// Sleeps until `end` is readable, for ever.
fn sleep_on(end: &impl AsFd) {
    poll(&mut [PollFd::new(end, PollFlags::IN)], None).unwrap();
}

/// Has nothing but its descriptor to learn from.
/// With `held`, the first sleep comes when it is told so: until then this process holds nothing, which a signal that stops it
/// would not see to.
fn poll_for_values(mut held: bool) {
    let receiver: Receiver<u8> = take("end").unwrap();
    loop {
        match receiver.try_get() {
            Ok(value) => say(&format!("got {value}")),
            Err(error) if error.is_empty() => {
                say("empty");
                if std::mem::take(&mut held) {
                    let _ = hear();
                }
                sleep_on(&receiver);
            }
            Err(error) => return say(&error.to_string()),
        }
    }
}

fn poll_for_room() {
    let sender: Sender<u8> = take("end").unwrap();
    // The first look makes the bells of this process count.
    let _ = sender.is_ready();
    loop {
        match sender.try_put(7) {
            Ok(()) => say("put"),
            Err(error) if error.is_full() => {
                say("full");
                sleep_on(&sender);
            }
            Err(error) => return say(&error.to_string()),
        }
    }
}

fn act(role: &str) {
    match role {
        "getter" => poll_for_values(false),
        "held getter" => poll_for_values(true),
        "putter" => poll_for_room(),
        "looker" => {
            let receiver: Receiver<u8> = take("end").unwrap();
            wait(&[&receiver], Some(Duration::ZERO)).unwrap();
        }
        "room looker" => {
            let sender: Sender<u8> = take("end").unwrap();
            wait(&[&sender], Some(Duration::ZERO)).unwrap();
        }
        "producer" => take::<Sender<u8>>("end").unwrap().put(9).unwrap(),
        "consumer" => drop(take::<Receiver<u8>>("end").unwrap().get().unwrap()),
        "closer" => take::<Sender<u8>>("end").unwrap().close().unwrap(),
        other => panic!("{other}"),
    }
}

/// The next word that is not `idle`: it may look for nothing any number of times.
fn word_after(role: &mut Role, idle: &str) -> String {
    loop {
        let word = role.word().unwrap();
        if word != idle {
            return word;
        }
    }
}

#[test]
fn a_poller_killed_after_it_drained_leaves_no_value_beside_a_sleeping_one() {
    const TEST: &str = "a_poller_killed_after_it_drained_leaves_no_value_beside_a_sleeping_one";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let receiver = queue.clone().into_receiver();
        let mut living = Role::start(child(TEST, "getter", &receiver));
        living.expect("empty");
        for n in 0..5 {
            dies_at("queue.silence:1", TEST, "looker", &receiver);
            queue.put(n).unwrap();
            assert_eq!(word_after(&mut living, "empty"), format!("got {n}"));
        }
    });
}

#[test]
fn a_poller_killed_after_it_drained_leaves_no_room_beside_a_sleeping_one() {
    const TEST: &str = "a_poller_killed_after_it_drained_leaves_no_room_beside_a_sleeping_one";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::bounded(1).unwrap();
        queue.put(0).unwrap();
        let sender = queue.clone().into_sender();
        let mut living = Role::start(child(TEST, "putter", &sender));
        living.expect("full");
        for _ in 0..5 {
            dies_at("queue.silence:2", TEST, "room looker", &sender);
            queue.get().unwrap();
            assert_eq!(word_after(&mut living, "full"), "put");
        }
    });
}

#[test]
fn a_producer_killed_beside_its_ring_is_missed_by_no_poller() {
    const TEST: &str = "a_producer_killed_beside_its_ring_is_missed_by_no_poller";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let mut living = Role::start(child(TEST, "getter", &queue.clone().into_receiver()));
        living.expect("empty");
        for step in all_steps(&[("queue.bell", 1..=2), ("queue.put", 1..=3), ("ring.write", 1..=4)]) {
            dies_at(&step, TEST, "producer", &queue.clone().into_sender());
            if ["queue.put:2", "queue.put:3", "ring.write:4"].contains(&step.as_str()) {
                assert_eq!(word_after(&mut living, "empty"), "got 9", "{step}");
            }
            queue.put(1).unwrap();
            assert_eq!(word_after(&mut living, "empty"), "got 1", "{step}");
        }
        queue.close().unwrap();
        assert!(word_after(&mut living, "empty").contains("closed"));
    });
}

#[test]
fn a_consumer_killed_beside_its_ring_is_missed_by_no_poller() {
    const TEST: &str = "a_consumer_killed_beside_its_ring_is_missed_by_no_poller";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::bounded(1).unwrap();
        queue.put(0).unwrap();
        let mut living = Role::start(child(TEST, "putter", &queue.clone().into_sender()));
        living.expect("full");
        for step in all_steps(&[("queue.bell", 3..=4), ("queue.get", 1..=3), ("ring.read", 1..=3)]) {
            dies_at(&step, TEST, "consumer", &queue.clone().into_receiver());
            if ["queue.get:2", "queue.get:3", "ring.read:3"].contains(&step.as_str()) {
                assert_eq!(word_after(&mut living, "full"), "put", "{step}");
            }
            queue.get().unwrap();
            assert_eq!(word_after(&mut living, "full"), "put", "{step}");
        }
        queue.close().unwrap();
        assert!(word_after(&mut living, "full").contains("closed"));
    });
}

#[test]
fn a_closer_killed_in_close_has_closed_the_queue_or_has_not() {
    const TEST: &str = "a_closer_killed_in_close_has_closed_the_queue_or_has_not";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, closed) in [("queue.close:1", false), ("queue.close:2", true)] {
            let queue = Queue::<u8>::bounded(1).unwrap();
            let (sender, receiver) = queue.clone().split();
            let mut getter = Role::start(child(TEST, "getter", &receiver));
            getter.expect("empty");
            let filled = Queue::<u8>::bounded(1).unwrap();
            filled.put(0).unwrap();
            let mut putter = Role::start(child(TEST, "putter", &filled.clone().into_sender()));
            putter.expect("full");
            dies_at(step, TEST, "closer", &sender);
            dies_at(step, TEST, "closer", &filled.clone().into_sender());
            assert_eq!((queue.is_closed(), filled.is_closed()), (closed, closed));
            if !closed {
                queue.close().unwrap();
                filled.close().unwrap();
            }
            assert!(word_after(&mut getter, "empty").contains("closed"), "{step}");
            assert!(word_after(&mut putter, "full").contains("closed"), "{step}");
        }
    });
}

#[test]
fn a_stopped_holder_delays_pollers_until_it_goes_on_or_dies() {
    const TEST: &str = "a_stopped_holder_delays_pollers_until_it_goes_on_or_dies";
    if let Some(role) = role() {
        return act(&role);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let receiver = queue.clone().into_receiver();
        let mut living = Role::start(child(TEST, "held getter", &receiver));
        living.expect("empty");
        (1..=2).for_each(|n| queue.put(n).unwrap());
        // A consumer that holds the lock: there is something, and it cannot be had.
        let mut stopped = stops_at("queue.get:1", TEST, "consumer", &receiver);
        living.tell("go");
        living.expect("empty");
        living.expect("empty");
        stopped.kill();
        let seen = [word_after(&mut living, "empty"), word_after(&mut living, "empty")];
        assert_eq!(seen, ["got 1", "got 2"]);
    });
}
