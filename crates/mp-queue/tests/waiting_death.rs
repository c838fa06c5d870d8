//! Those who wait are killed or stopped asleep, or as they are woken; those who hold a lock are stopped.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{all_steps, child, message, signal, state, stops_at};
use mp_queue::{
    JoinableQueue, PutTimeoutError, Queue, Receiver, Sender, TryGetError, TryPutError, Waitable, take, wait,
};
use mp_test::{Role, guarded, hear, role, say, steps_or_say, until};
use rustix::process::Signal;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

fn wait_in_get() {
    let receiver: Receiver<Vec<u8>> = take("end").unwrap();
    let me = std::fs::read_link("/proc/thread-self").unwrap();
    say(&me.to_string_lossy());
    if let Ok(value) = receiver.get() {
        say(&format!("got {}", value[0]));
    }
    let _ = hear();
}

/// Starts a child that waits in `get`, and waits until it sleeps there.
fn asleep(test: &str, receiver: &Receiver<Vec<u8>>) -> Role {
    let mut waiter = Role::start(child(test, "waiter", receiver));
    let thread = waiter.word().unwrap();
    until("the waiter sleeps", || state(&thread) == "S");
    waiter
}

fn put_once() {
    take::<Sender<Vec<u8>>>("end").unwrap().put(message(1)).unwrap();
}

#[test]
fn a_waiter_killed_asleep_is_missed_by_nobody() {
    const TEST: &str = "a_waiter_killed_asleep_is_missed_by_nobody";
    if role().is_some() {
        return wait_in_get();
    }
    guarded(|| {
        let queue = Queue::new().unwrap();
        let receiver = queue.clone().into_receiver();
        for round in 0..3 {
            let (mut first, mut second) = (asleep(TEST, &receiver), asleep(TEST, &receiver));
            first.kill();
            queue.put(message(round)).unwrap();
            second.expect(&format!("got {round}"));
        }
        let mut last = asleep(TEST, &receiver);
        last.kill();
        queue.put(message(9)).unwrap();
        assert!(queue.get().unwrap() == message(9));
    });
}

#[test]
fn a_waiter_killed_as_it_is_woken_is_missed_by_nobody() {
    const TEST: &str = "a_waiter_killed_as_it_is_woken_is_missed_by_nobody";
    if role().is_some() {
        return wait_in_get();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("queue.wait", 1..=2)]) {
            let queue = Queue::new().unwrap();
            let receiver = queue.clone().into_receiver();
            // The first dies just before it sleeps, or when the kernel has woken it, who came first, instead of the second.
            let mut first = child(TEST, "waiter", &receiver);
            first.env("MP_STEP", &step);
            let mut first = Role::start(first);
            let thread = first.word().unwrap();
            until("the first sleeps or is dead", || ["S", "Z", ""].contains(&state(&thread).as_str()));
            let mut second = asleep(TEST, &receiver);
            queue.put(message(1)).unwrap();
            second.expect("got 1");
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&first.wait()),
                Some(9),
                "{step}: not reached"
            );
        }
    });
}

#[test]
fn a_waiter_stopped_asleep_is_missed_by_nobody() {
    const TEST: &str = "a_waiter_stopped_asleep_is_missed_by_nobody";
    if role().is_some() {
        return wait_in_get();
    }
    guarded(|| {
        let queue = Queue::new().unwrap();
        let receiver = queue.clone().into_receiver();
        let (mut first, mut second) = (asleep(TEST, &receiver), asleep(TEST, &receiver));
        signal(&first, Signal::STOP);
        queue.put(message(1)).unwrap();
        second.expect("got 1");
        queue.put(message(2)).unwrap();
        signal(&first, Signal::CONT);
        first.expect("got 2");
    });
}

#[test]
fn a_stopped_producer_delays_others_up_to_their_time_outs() {
    const TEST: &str = "a_stopped_producer_delays_others_up_to_their_time_outs";
    if role().is_some() {
        return put_once();
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in ["queue.put:1", "ring.write:3"] {
            let queue = Queue::new().unwrap();
            queue.put(message(0)).unwrap();
            let mut stopped = stops_at(step, TEST, "producer", &queue.clone().into_sender());
            let start = Instant::now();
            assert!(matches!(queue.put_timeout(message(2), SHORT), Err(PutTimeoutError::TimedOut(_))));
            assert!(start.elapsed() >= SHORT);
            assert!(matches!(queue.try_put(message(2)), Err(TryPutError::Full(_))));
            // Consumers need nothing of it.
            assert!(queue.get().unwrap() == message(0));
            assert!(queue.get_timeout(SHORT).unwrap_err().is_timeout());
            thread::scope(|scope| {
                let patient = scope.spawn(|| queue.put(message(2)).unwrap());
                signal(&stopped, Signal::CONT);
                patient.join().unwrap();
            });
            assert!(stopped.wait().success());
            assert!(queue.get().unwrap() == message(1) && queue.get().unwrap() == message(2));
        }
    });
}

#[test]
fn a_stopped_consumer_delays_others_up_to_their_time_outs() {
    const TEST: &str = "a_stopped_consumer_delays_others_up_to_their_time_outs";
    if role().is_some() {
        return drop(take::<Receiver<Vec<u8>>>("end").unwrap().get());
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in ["queue.get:1", "ring.read:2"] {
            let queue = Queue::new().unwrap();
            (0..3).for_each(|n| queue.put(message(n)).unwrap());
            let mut stopped = stops_at(step, TEST, "consumer", &queue.clone().into_receiver());
            let start = Instant::now();
            assert!(queue.get_timeout(SHORT).unwrap_err().is_timeout());
            assert!(start.elapsed() >= SHORT);
            assert!(queue.try_get().unwrap_err().is_empty());
            // Producers need nothing of it; and closed is not drained.
            queue.put(message(3)).unwrap();
            queue.close().unwrap();
            assert!(matches!(queue.try_get(), Err(TryGetError::Empty)), "{step}: values are inside");
            signal(&stopped, Signal::CONT);
            assert!(stopped.wait().success());
            let got: Vec<u8> = queue.iter().map(|value| value.unwrap()[0]).collect();
            assert_eq!(got, [1, 2, 3], "{step}");
        }
    });
}

/// What every form with a time-out says while a process that holds a lock is stopped; and that nothing is lost by it.
#[test]
fn a_stopped_holder_keeps_no_time_out_from_ending() {
    const TEST: &str = "a_stopped_holder_keeps_no_time_out_from_ending";
    match role().as_deref() {
        Some("producer") => return take::<JoinableQueue<Vec<u8>>>("end").unwrap().put(message(1)).unwrap(),
        Some(_) => {
            let (value, claim) = take::<JoinableQueue<Vec<u8>>>("end").unwrap().claim().unwrap();
            assert!(value == message(1));
            return claim.done().unwrap();
        }
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        let queue = JoinableQueue::<Vec<u8>>::bounded(10).unwrap();
        let mut stopped = stops_at("queue.put:1", TEST, "producer", &queue);
        for look in [Duration::ZERO, SHORT] {
            let late = Instant::now() + look;
            assert!(queue.put_deadline(message(2), late).unwrap_err().into_inner() == message(2));
            let error = queue.put_many_timeout([message(3), message(4)], look).unwrap_err();
            assert!((error.put, error.rest) == (0, vec![message(4)]));
            assert!(error.error.into_inner() == message(3));
            assert!(queue.get_timeout(look).unwrap_err().is_timeout());
            assert!(queue.claim_deadline(late).unwrap_err().is_timeout());
            assert!(queue.join_timeout(look).unwrap(), "nothing is inside");
            assert_eq!(wait(&[&queue], Some(look)).unwrap(), []);
            assert!(!queue.close_timeout(look).unwrap() && !queue.is_closed());
        }
        signal(&stopped, Signal::CONT);
        assert!(stopped.wait().success());

        let mut stopped = stops_at("queue.get:1", TEST, "consumer", &queue);
        for look in [Duration::ZERO, SHORT] {
            let late = Instant::now() + look;
            assert!(queue.get_deadline(late).unwrap_err().is_timeout());
            assert!(queue.get_many_timeout(5, look).unwrap_err().is_timeout());
            assert!(queue.claim_timeout(look).unwrap_err().is_timeout());
            assert!(!queue.join_deadline(late).unwrap());
            assert_eq!(wait(&[&queue], Some(look)).unwrap(), [0], "a value is inside");
            assert!(queue.is_ready().unwrap());
        }
        queue.put(message(5)).unwrap();
        assert!(queue.close_timeout(SHORT).unwrap() && queue.is_closed(), "the other lock");
        thread::scope(|scope| {
            let joiner = scope.spawn(|| queue.join().unwrap());
            signal(&stopped, Signal::CONT);
            assert!(stopped.wait().success());
            assert!(queue.get().unwrap() == message(5));
            queue.task_done().unwrap();
            joiner.join().unwrap();
        });
        assert!(queue.get().unwrap_err().is_closed());
    });
}
