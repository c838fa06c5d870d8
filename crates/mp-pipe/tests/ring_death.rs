//! A process is killed at each step of the ring's protocol; whoever is at the other end gets what is promised.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, Passed, Receiver, RecvError, SendError, Sender, give, pipe, pipe_one_way, take};
use mp_test::{Role, command, guarded, role, say, steps_or_say};
use serde::Serialize;
use std::fs::File;
use std::thread;
use std::time::Duration;

/// Starts `test` in a second process, armed to die at `step`, with `value` for it to take.
fn doomed<T: Serialize + 'static>(test: &str, step: &str, value: &T) -> Role {
    let mut command = command(test, "doomed");
    give(&mut command, "value", value).unwrap();
    Role::start({
        command.env("MP_STEP", step);
        command
    })
}

/// A message that tells when it is torn: `n` says its length and content.
fn message(n: usize) -> Vec<u64> {
    let sizes = [1, 10, 100, 1000, 3000, 50_000];
    vec![n as u64; sizes[n % sizes.len()]]
}

/// Receives until nobody sends any more; how many whole messages came.
fn drain(receiver: &mut Receiver<Vec<u64>>) -> usize {
    for n in 0.. {
        match receiver.recv() {
            Ok(found) => assert!(found == message(n), "message {n} is torn"),
            Err(error) => {
                assert!(matches!(error, RecvError::Disconnected), "{error}");
                return n;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_killed_sender_tears_nothing() {
    let test = "a_killed_sender_tears_nothing";
    if role().is_some() {
        let mut sender: Sender<Vec<u64>> = take("value").unwrap();
        for n in 0.. {
            sender.send(message(n)).unwrap();
            say(&format!("{n}"));
        }
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for (protocol, steps) in [("ring.write", 1..=4), ("ring.grow", 1..=3)] {
            for step in steps {
                for passes in [0, 1, 3, 8] {
                    // Each death seen by one who sleeps in a receive, and by one who comes later.
                    for sleeps in [true, false] {
                        // Without a reader it gets only so far.
                        let reached = passes == 0 || (passes <= 3 && protocol == "ring.write");
                        if !sleeps && !reached {
                            continue;
                        }
                        let (sender, mut receiver) = pipe_one_way::<Vec<u64>>().unwrap();
                        let mut child = doomed(test, &format!("{protocol}:{step}:+{passes}"), &sender);
                        let (received, confirmed) = thread::scope(|scope| {
                            let early = sleeps.then(|| scope.spawn(|| drain(&mut receiver)));
                            let confirmed = std::iter::from_fn(|| child.word()).count();
                            child.wait();
                            (early.map(|drains| drains.join().unwrap()), confirmed)
                        });
                        let received = received.unwrap_or_else(|| drain(&mut receiver));
                        let what = format!("{protocol}:{step}:+{passes}");
                        // What `send` confirmed is there; of the one in which it died, all or nothing.
                        assert!(received == confirmed || received == confirmed + 1, "{what}");
                        if protocol == "ring.write" {
                            let whole = usize::from(step == 4);
                            assert_eq!(received, passes + whole, "{what}");
                        }
                        assert!(receiver.try_recv().unwrap_err().is_disconnected());
                    }
                }
            }
        }
    });
}

#[test]
fn a_killed_receiver_is_news_to_the_sender() {
    let test = "a_killed_receiver_is_news_to_the_sender";
    if role().is_some() {
        let mut receiver: Receiver<Vec<u64>> = take("value").unwrap();
        for n in 0.. {
            assert!(receiver.recv().unwrap() == message(n));
        }
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for (protocol, steps) in [("ring.read", 1..=3), ("ring.free", 1..=2)] {
            for step in steps {
                for passes in [0, 1, 7] {
                    let (mut sender, receiver) = pipe_one_way::<Vec<u64>>().unwrap();
                    let mut child = doomed(test, &format!("{protocol}:{step}:+{passes}"), &receiver);
                    // It waits for room each now and then, and so also while the receiver dies.
                    for n in 0.. {
                        let Err(error) = sender.send(message(n)) else { continue };
                        assert!(matches!(&error, SendError::Disconnected(_)), "{error}");
                        assert!(error.into_inner() == message(n), "the value comes back");
                        break;
                    }
                    child.wait();
                    assert!(sender.try_send(vec![1]).unwrap_err().is_disconnected());
                    assert!(sender.send_timeout(vec![1], Duration::MAX).unwrap_err().is_disconnected());
                }
            }
        }
    });
}

#[test]
fn one_killed_while_it_dozes_is_news_to_the_other_end() {
    let test = "one_killed_while_it_dozes_is_news_to_the_other_end";
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        // A reader that nobody writes to, or a writer whose messages nobody takes.
        if connection.recv::<bool>().unwrap() {
            connection.recv::<u64>().unwrap();
        }
        for n in 0.. {
            connection.send(message(n)).unwrap();
        }
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        let (protocol, steps) = ("pipe.doze", 1..=3);
        for step in steps {
            for reads in [true, false] {
                let (mut kept, sent) = pipe().unwrap();
                // It is there already: only the next wait is one.
                kept.send(reads).unwrap();
                let mut child = doomed(test, &format!("{protocol}:{step}:+0"), &sent);
                child.wait();
                for n in 0.. {
                    match kept.recv::<Vec<u64>>() {
                        Ok(found) => assert!(!reads && found == message(n)),
                        Err(error) => {
                            assert!(error.is_disconnected(), "{error}");
                            break;
                        }
                    }
                }
                assert!(kept.send(1_u64).unwrap_err().is_disconnected());
            }
        }
    });
}

#[test]
fn one_killed_in_either_direction_of_a_connection_is_news_in_both() {
    let test = "one_killed_in_either_direction_of_a_connection_is_news_in_both";
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        loop {
            let numbers: Vec<u64> = connection.recv().unwrap();
            connection.send(numbers).unwrap();
        }
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for (protocol, steps) in [("ring.write", 1..=4), ("ring.read", 1..=3), ("ring.grow", 1..=3)] {
            for step in steps {
                let (mut kept, sent) = pipe().unwrap();
                let mut child = doomed(test, &format!("{protocol}:{step}:+1"), &sent);
                let end = (0..).find_map(|n| {
                    if let Err(error) = kept.send(message(n)) {
                        assert!(error.is_disconnected(), "{error}");
                        return Some(());
                    }
                    match kept.recv::<Vec<u64>>() {
                        Ok(found) => {
                            assert!(found == message(n));
                            None
                        }
                        Err(error) => {
                            assert!(error.is_disconnected(), "{error}");
                            Some(())
                        }
                    }
                });
                assert_eq!(end, Some(()));
                child.wait();
                assert!(kept.send(1).unwrap_err().is_disconnected());
                // Its last answer may have been complete.
                while kept.recv::<Vec<u64>>().is_ok() {}
                assert!(kept.recv::<Vec<u64>>().unwrap_err().is_disconnected());
            }
        }
    });
}

#[test]
fn handles_go_with_their_message_or_not_at_all() {
    let test = "handles_go_with_their_message_or_not_at_all";
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        for n in 0_u32.. {
            connection.send((n, Passed(File::open("/dev/null").unwrap()))).unwrap();
        }
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for step in 1..=4 {
            let (mut kept, sent) = pipe().unwrap();
            let mut child = doomed(test, &format!("ring.write:{step}:+3"), &sent);
            child.wait();
            for n in 0..if step == 4 { 4 } else { 3 } {
                assert_eq!(kept.recv::<(u32, Passed<File>)>().unwrap().0, n, "step {step}");
            }
            assert!(
                matches!(kept.recv::<(u32, Passed<File>)>(), Err(RecvError::Disconnected)),
                "step {step}"
            );
        }
    });
}

#[test]
fn an_end_whose_carrier_is_killed_while_it_sends_it() {
    let test = "an_end_whose_carrier_is_killed_while_it_sends_it";
    if role().is_some() {
        let mut courier: Connection = take("value").unwrap();
        let end: Connection = courier.recv().unwrap();
        courier.send(end).unwrap();
        unreachable!("the step comes first");
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for step in 1..=4 {
            let (mut kept, sent) = pipe().unwrap();
            let (mut end, other) = pipe().unwrap();
            kept.send(other).unwrap();
            let mut child = doomed(test, &format!("ring.write:{step}"), &sent);
            child.wait();
            match kept.recv::<Connection>() {
                // Sent whole: it works, and nobody else has it.
                Ok(mut other) => {
                    assert_eq!(step, 4);
                    end.send(1).unwrap();
                    assert_eq!(other.recv::<i32>().unwrap(), 1);
                    other.send(2).unwrap();
                    assert_eq!(end.recv::<i32>().unwrap(), 2);
                    drop(other);
                }
                // Not sent: gone with its carrier. What was on its way in the socket goes with that.
                Err(error) => {
                    assert!(error.is_disconnected() && step < 4, "step {step}: {error}");
                    drop(kept);
                }
            }
            assert!(end.recv::<u8>().unwrap_err().is_disconnected(), "step {step}");
        }
    });
}

#[test]
fn a_writer_stopped_between_publishing_and_ringing_delays_nobody() {
    let test = "a_writer_stopped_between_publishing_and_ringing_delays_nobody";
    if role().is_some() {
        let mut sender: Sender<u32> = take("value").unwrap();
        let _ = sender.send(7);
        return;
    }
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        let (sender, mut receiver) = pipe_one_way::<u32>().unwrap();
        let mut child = doomed(test, "ring.write:4:stop", &sender);
        // It sleeps already, and its bell is never rung.
        assert_eq!(receiver.recv().unwrap(), 7);
        child.kill();
        assert!(receiver.recv().unwrap_err().is_disconnected());
    });
}
