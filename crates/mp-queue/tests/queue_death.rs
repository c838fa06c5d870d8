//! Producers and consumers are killed at every step; the others go on.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use help::{all_steps, dies_at, may_die_at, memory, message, until_given_back, wanted_kills};
use mp_queue::{Queue, Receiver, Sender, take};
use mp_test::{guarded, role, steps_or_say};
use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

/// The steps of a put, and whether the message is in the queue at it.
fn steps_of_put() -> Vec<(String, bool)> {
    let steps = all_steps(&[("queue.put", 1..=3), ("ring.write", 1..=4), ("ring.grow", 1..=3)]);
    let sent = ["queue.put:2", "queue.put:3", "ring.write:4"];
    steps.into_iter().map(|step| (step.clone(), sent.contains(&step.as_str()))).collect()
}

/// The steps of a get, and whether the message is taken at it.
fn steps_of_get() -> Vec<(String, bool)> {
    let steps = all_steps(&[("queue.get", 1..=3), ("ring.read", 1..=3)]);
    let taken = ["queue.get:2", "queue.get:3", "ring.read:3"];
    steps.into_iter().map(|step| (step.clone(), taken.contains(&step.as_str()))).collect()
}

fn put_once() {
    take::<Sender<Vec<u8>>>("end").unwrap().put(message(1)).unwrap();
}

#[test]
fn a_producer_killed_in_put_tears_nothing_and_blocks_nobody() {
    const TEST: &str = "a_producer_killed_in_put_tears_nothing_and_blocks_nobody";
    if role().is_some() {
        return put_once();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, sent) in steps_of_put() {
            for bound in [None, Some(3)] {
                let queue = bound.map_or_else(Queue::new, Queue::bounded).unwrap();
                let producer = queue.clone().into_sender();
                thread::scope(|scope| {
                    // This one waits while the other dies.
                    let consumer = scope.spawn(|| queue.get().unwrap());
                    dies_at(&step, TEST, "producer", &producer);
                    if sent {
                        assert!(consumer.join().unwrap() == message(1), "{step}");
                    } else {
                        queue.put(message(2)).unwrap();
                        assert!(consumer.join().unwrap() == message(2), "{step}");
                    }
                });
                assert!(queue.try_get().unwrap_err().is_empty(), "{step}");
                (0..10).for_each(|n| {
                    assert!(queue.put(message(n)).is_ok() && queue.get().unwrap() == message(n))
                });
            }
        }
    });
}

/// From the second time on a process goes the quick way.
#[test]
fn whoever_is_killed_on_the_quick_way_tears_nothing_and_blocks_nobody() {
    const TEST: &str = "whoever_is_killed_on_the_quick_way_tears_nothing_and_blocks_nobody";
    match role().as_deref() {
        Some("producer") => {
            let sender = take::<Sender<Vec<u8>>>("end").unwrap();
            return (0..9).for_each(|n| sender.put(vec![n; 50]).unwrap());
        }
        Some(_) => return take::<Receiver<Vec<u8>>>("end").unwrap().iter().for_each(drop),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    let step_of = |step: &str, passes| format!("{step}:+{passes}");
    guarded(|| {
        for passes in 2..5_u8 {
            for (step, sent) in steps_of_put().into_iter().filter(|(step, _)| !step.starts_with("ring.grow"))
            {
                let queue = Queue::bounded(20).unwrap();
                dies_at(&step_of(&step, passes), TEST, "producer", &queue.clone().into_sender());
                // The lock is taken once for the first message, to find that there is more to do, and once to do it.
                let before = queue.len() as u8 - u8::from(sent);
                assert!(
                    before == passes || (step == "queue.put:1" && before + 1 == passes),
                    "{step}: {before}"
                );
                queue.put(vec![77; 3]).unwrap();
                for n in 0..before + u8::from(sent) {
                    assert_eq!(queue.get().unwrap(), [n; 50], "{step}");
                }
                assert_eq!(queue.get().unwrap(), [77; 3], "{step}");
            }
            for (step, taken) in steps_of_get() {
                let queue = Queue::bounded(20).unwrap();
                (0..9).for_each(|n| queue.put(vec![n; 50]).unwrap());
                dies_at(&step_of(&step, passes), TEST, "consumer", &queue.clone().into_receiver());
                let left = queue.len() as u8;
                let gone = 9 - left - u8::from(taken);
                assert!(gone == passes || (step == "queue.get:1" && gone + 1 == passes), "{step}: {gone}");
                for n in 9 - left..9 {
                    assert_eq!(queue.get().unwrap(), [n; 50], "{step}");
                }
                queue.put(vec![77; 3]).unwrap();
                assert_eq!(queue.get().unwrap(), [77; 3], "{step}");
            }
        }
    });
}

#[test]
fn the_last_sender_killed_in_put_ends_the_receivers() {
    const TEST: &str = "the_last_sender_killed_in_put_ends_the_receivers";
    if role().is_some() {
        return put_once();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, sent) in steps_of_put() {
            let (sender, receiver) = Queue::<Vec<u8>>::new().unwrap().split();
            dies_at(&step, TEST, "producer", &sender);
            sender.put(message(0)).unwrap();
            // A queue that has grown does not grow again for this.
            dies_at(&step.replace("ring.grow", "ring.write"), TEST, "producer", &sender);
            drop(sender);
            let got: Vec<u8> = receiver.iter().map(|value| value.unwrap()[0]).collect();
            assert_eq!(got, if sent { vec![1, 0, 1] } else { vec![0] }, "{step}");
        }
    });
}

#[test]
fn producers_that_die_one_after_the_other_lose_only_their_own() {
    const TEST: &str = "producers_that_die_one_after_the_other_lose_only_their_own";
    if role().is_some() {
        return put_once();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = Queue::new().unwrap();
        let mut expected = Vec::new();
        for round in 0..3 {
            for (step, sent) in steps_of_put() {
                if !step.starts_with("ring.grow") {
                    dies_at(&step, TEST, "producer", &queue.clone().into_sender());
                    expected.extend(sent.then_some(1));
                }
            }
            queue.put(message(10 + round)).unwrap();
            expected.push(10 + round);
        }
        queue.close().unwrap();
        let got: Vec<Vec<u8>> = queue.iter().map(Result::unwrap).collect();
        assert!(got.iter().all(|value| *value == message(value[0])));
        assert_eq!(got.iter().map(|value| value[0]).collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_producer_killed_while_the_queue_grows_leaves_no_memory_behind() {
    const TEST: &str = "a_producer_killed_while_the_queue_grows_leaves_no_memory_behind";
    if role().is_some() {
        return take::<Sender<Vec<u8>>>("end").unwrap().put(vec![1; 32 << 20]).unwrap();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("ring.grow", 1..=3), ("ring.write", 2..=2)]) {
            let queue = Queue::new().unwrap();
            queue.put(message(1)).unwrap();
            dies_at(&step, TEST, "producer", &queue.clone().into_sender());
            assert!(memory() >= 32 << 20, "{step}");
            assert!(queue.get().unwrap() == message(1), "{step}");
            until_given_back(&queue, 1 << 20);
            queue.put(message(2)).unwrap();
            assert!(queue.get().unwrap() == message(2), "{step}");
        }
    });
}

#[test]
fn handles_that_a_killed_producer_had_sent_are_dropped() {
    const TEST: &str = "handles_that_a_killed_producer_had_sent_are_dropped";
    if role().is_some() {
        let (queue, other) = take::<(Sender<Sender<u8>>, Sender<u8>)>("end").unwrap();
        return queue.put(other).unwrap();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("ring.write", 1..=3)]) {
            let queue = Queue::<Sender<u8>>::new().unwrap();
            let (other, receiver) = Queue::<u8>::new().unwrap().split();
            dies_at(&step, TEST, "producer", &(queue.clone().into_sender(), other));
            // What died with the producer still holds the other queue's lifeline, until somebody who waits looks.
            thread::scope(|scope| {
                scope.spawn(|| assert!(queue.get().unwrap_err().is_closed(), "{step}"));
                assert!(receiver.get().unwrap_err().is_disconnected(), "{step}");
                queue.close().unwrap();
            });
        }
    });
}

#[test]
fn a_value_after_a_killed_producer_s_has_its_own_handles() {
    const TEST: &str = "a_value_after_a_killed_producer_s_has_its_own_handles";
    type End = (Sender<Queue<u8>>, Queue<u8>);
    if role().is_some() {
        let (queue, other) = take::<End>("end").unwrap();
        return queue.put(other).unwrap();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("ring.write", 1..=4)]) {
            let queue = Queue::<Queue<u8>>::new().unwrap();
            let (theirs, ours) = (Queue::<u8>::new().unwrap(), Queue::<u8>::new().unwrap());
            dies_at(&step, TEST, "producer", &(queue.clone().into_sender(), theirs.clone()));
            queue.put(ours.clone()).unwrap();
            if step == "ring.write:4" {
                queue.get().unwrap().put(1).unwrap();
                assert_eq!(theirs.get().unwrap(), 1, "{step}");
            }
            queue.get().unwrap().put(2).unwrap();
            assert_eq!(ours.get().unwrap(), 2, "{step}");
            assert!(queue.is_empty());
        }
    });
}

#[test]
fn a_consumer_killed_in_get_has_taken_one_or_none_and_blocks_nobody() {
    const TEST: &str = "a_consumer_killed_in_get_has_taken_one_or_none_and_blocks_nobody";
    if role().is_some() {
        return drop(take::<Receiver<Vec<u8>>>("end").unwrap().get());
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, taken) in steps_of_get() {
            let queue = Queue::bounded(2).unwrap();
            queue.put(message(0)).unwrap();
            queue.put(message(1)).unwrap();
            thread::scope(|scope| {
                // This one waits for room while the consumer dies.
                let producer = scope.spawn(|| queue.put(message(2)).unwrap());
                dies_at(&step, TEST, "consumer", &queue.clone().into_receiver());
                for n in if taken { 1..=2 } else { 0..=2 } {
                    assert!(queue.get().unwrap() == message(n), "{step}: {n}");
                }
                producer.join().unwrap();
            });
            assert!(queue.try_get().unwrap_err().is_empty());
        }
    });
}

#[test]
fn a_consumer_killed_while_it_gives_memory_back_leaves_the_rest_to_the_next() {
    const TEST: &str = "a_consumer_killed_while_it_gives_memory_back_leaves_the_rest_to_the_next";
    if role().is_some() {
        let receiver: Receiver<Vec<u8>> = take("end").unwrap();
        return receiver.iter().for_each(drop);
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        // It dies when it leaves the first of several regions, and when it leaves the last.
        for (count, size, moves) in [(20, 1 << 20, 0), (1, 8 << 20, 1)] {
            for step in all_steps(&[("ring.free", 1..=2)]) {
                let queue = Queue::new().unwrap();
                (0..count).for_each(|n| queue.put(vec![n; size]).unwrap());
                dies_at(&format!("{step}:+{moves}"), TEST, "consumer", &queue.clone().into_receiver());
                for n in count - queue.len() as u8..count {
                    assert!(queue.get().unwrap() == vec![n; size], "{step}: {n}");
                }
                until_given_back(&queue, 1 << 20);
            }
        }
    });
}

/// Large enough for memory of its own.
fn large(n: u8) -> Vec<u8> {
    vec![n; 6 << 20]
}

/// The values inside come, in order, and new ones behind them; then the memory is back.
fn goes_on(queue: &Queue<Vec<u8>>, step: &str, inside: std::ops::Range<u8>) {
    assert_eq!(queue.len(), inside.len(), "{step}");
    let mut expected: VecDeque<u8> = inside.collect();
    for n in 10..20 {
        queue.put(large(n)).unwrap();
        expected.push_back(n);
        assert!(queue.get().unwrap() == large(expected.pop_front().unwrap()), "{step}: before {n}");
    }
    expected.iter().for_each(|n| assert!(queue.get().unwrap() == large(*n), "{step}: {n}"));
    until_given_back(queue, 1 << 20);
}

#[test]
fn whoever_is_killed_while_large_values_take_over_memory_takes_none_along() {
    const TEST: &str = "whoever_is_killed_while_large_values_take_over_memory_takes_none_along";
    match role().as_deref() {
        Some("producer") => return take::<Sender<Vec<u8>>>("end").unwrap().put(large(9)).unwrap(),
        Some(_) => return take::<Receiver<Vec<u8>>>("end").unwrap().iter().for_each(drop),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("ring.grow", 1..=3), ("ring.write", 1..=3)]) {
            let queue = Queue::new().unwrap();
            (0..3).for_each(|n| queue.put(large(n)).unwrap());
            // The memory of the first is on offer while the second is read from.
            (0..2).for_each(|n| assert!(queue.get().unwrap() == large(n)));
            dies_at(&step, TEST, "producer", &queue.clone().into_sender());
            goes_on(&queue, &step, 2..3);
        }
        // It offers the first when it goes on to the second, and with the last gives back what is on offer.
        for (steps, most) in [(("ring.spare", 1..=2), 1), (("ring.free", 1..=2), 3)] {
            for (step, passes) in
                all_steps(&[steps]).iter().flat_map(|step| (0..most).map(move |n| (step, n)))
            {
                let queue = Queue::new().unwrap();
                (0..3).for_each(|n| queue.put(large(n)).unwrap());
                dies_at(&format!("{step}:+{passes}"), TEST, "consumer", &queue.clone().into_receiver());
                goes_on(&queue, step, 3 - queue.len() as u8..3);
            }
        }
    });
}

/// Of one length in four, so that memory is taken over by shorter and longer ones.
fn tagged(tag: u8) -> Vec<u8> {
    vec![tag; (5 + usize::from(tag) % 4) << 20]
}

#[test]
fn several_deaths_in_a_row_tear_no_large_value_and_leave_no_memory() {
    const TEST: &str = "several_deaths_in_a_row_tear_no_large_value_and_leave_no_memory";
    if let Some(role) = role() {
        let Ok(tag) = role.parse::<u8>() else {
            let receiver: Receiver<Vec<u8>> = take("end").unwrap();
            while receiver.get_timeout(Duration::from_millis(20)).is_ok() {}
            return;
        };
        let sender: Sender<Vec<u8>> = take("end").unwrap();
        return (0..3).for_each(|_| sender.put(tagged(tag)).unwrap());
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let deaths = wanted_kills().max(60);
        let puts = all_steps(&[("ring.grow", 1..=3), ("ring.write", 1..=4)]);
        let gets = all_steps(&[("ring.read", 1..=3), ("ring.free", 1..=2), ("ring.spare", 1..=2)]);
        let queue = Queue::<Vec<u8>>::new().unwrap();
        let (mut inside, mut state) = (VecDeque::new(), 1_usize);
        for death in 0..deaths {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [which, passes, puts_now] = [state >> 33, state >> 45, state >> 55];
            let tag = (death % 251) as u8;
            let put = puts_now.is_multiple_of(2) && inside.len() < 8;
            let steps = if put { &puts } else { &gets };
            let step = format!("{}:+{}", steps[which % steps.len()], passes % 3);
            if put {
                may_die_at(&step, TEST, &tag.to_string(), &queue.clone().into_sender());
                inside.resize(queue.len(), tag);
            } else {
                may_die_at(&step, TEST, "consumer", &queue.clone().into_receiver());
                inside.drain(..inside.len() - queue.len());
            }
            if let Some(first) = inside.front().filter(|_| passes.is_multiple_of(4)) {
                assert!(queue.get().unwrap() == tagged(*first), "{death}: {step}");
                inside.pop_front();
            }
        }
        inside.iter().for_each(|tag| assert!(queue.get().unwrap() == tagged(*tag)));
        until_given_back(&queue, 1 << 20);
    });
}

#[test]
fn the_last_receiver_killed_in_get_ends_the_senders() {
    const TEST: &str = "the_last_receiver_killed_in_get_ends_the_senders";
    if role().is_some() {
        return drop(take::<Receiver<Vec<u8>>>("end").unwrap().get());
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for (step, _) in steps_of_get() {
            let (sender, receiver) = Queue::bounded(1).unwrap().split();
            sender.put(message(0)).unwrap();
            thread::scope(|scope| {
                // Full, and perhaps with room for one when the consumer took it: in the end nobody is there.
                scope.spawn(|| {
                    while sender.put(message(1)).map_err(|error| assert!(error.is_disconnected())).is_ok() {}
                });
                dies_at(&step, TEST, "consumer", &receiver);
                drop(receiver);
            });
        }
    });
}
