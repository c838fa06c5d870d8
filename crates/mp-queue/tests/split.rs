//! The halves of a queue: who is gone is news for the other side, however it went.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{PutError, Queue, Receiver, Sender, TryGetError, give, take};
use mp_test::{Role, command, guarded, hear, role, say};
use serde::{Deserialize, Serialize};
use std::thread;
use std::time::Duration;

#[test]
fn smoke() {
    guarded(|| {
        let (sender, receiver) = Queue::new().unwrap().split();
        sender.put(1).unwrap();
        assert_eq!(receiver.get().unwrap(), 1);
    });
}

#[test]
fn receivers_drain_and_then_see_that_the_last_sender_is_gone() {
    guarded(|| {
        let (sender, receiver) = Queue::new().unwrap().split();
        let other = sender.clone();
        sender.put(1).unwrap();
        drop(sender);
        assert_eq!(receiver.get().unwrap(), 1);
        assert!(matches!(receiver.try_get(), Err(TryGetError::Empty)));
        other.put(2).unwrap();
        drop(other);
        assert_eq!(receiver.get().unwrap(), 2);
        for _ in 0..2 {
            assert!(receiver.get().unwrap_err().is_disconnected());
            assert!(receiver.try_get().unwrap_err().is_disconnected());
            assert!(receiver.get_timeout(Duration::from_secs(600)).unwrap_err().is_disconnected());
        }
        assert_eq!(receiver.iter().count(), 0);
        assert!(!receiver.is_closed());
    });
}

#[test]
fn senders_see_that_the_last_receiver_is_gone_and_get_the_value_back() {
    guarded(|| {
        for _ in 0..200 {
            let (sender, receiver) = Queue::new().unwrap().split();
            let other = receiver.clone();
            drop(receiver);
            sender.put("in time".to_owned()).unwrap();
            // At once: not only when the last look is long ago.
            drop(other);
            let error = sender.put("late".to_owned()).unwrap_err();
            assert!(matches!(&error, PutError::Disconnected(_)), "{error}");
            assert_eq!(error.into_inner(), "late");
            assert!(sender.try_put(String::new()).unwrap_err().is_disconnected());
        }
    });
}

#[test]
fn a_whole_queue_keeps_both_sides_alive_until_it_is_dropped() {
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let (sender, receiver) = (queue.clone().into_sender(), queue.clone().into_receiver());
        drop(sender);
        assert!(receiver.try_get().unwrap_err().is_empty());
        let sender = queue.clone().into_sender();
        drop(receiver);
        sender.put(1).unwrap();
        assert_eq!(queue.get().unwrap(), 1);
        drop(queue);
        assert!(sender.put(2).unwrap_err().is_disconnected());
    });
}

#[test]
fn those_who_wait_are_told() {
    guarded(|| {
        for _ in 0..50 {
            let (sender, receiver) = Queue::<u8>::new().unwrap().split();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| assert!(receiver.get().unwrap_err().is_disconnected()));
                }
                drop(sender);
            });
            let (sender, receiver) = Queue::bounded(1).unwrap().split();
            sender.put(0).unwrap();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| assert!(sender.put(1).unwrap_err().is_disconnected()));
                }
                drop(receiver);
            });
        }
    });
}

#[test]
fn an_end_on_its_way_in_a_message_counts() {
    guarded(|| {
        let carrier = Queue::new().unwrap();
        let (sender, receiver) = Queue::new().unwrap().split();
        carrier.put(sender.clone()).unwrap();
        drop(sender);
        assert!(receiver.try_get().unwrap_err().is_empty());
        carrier.get().unwrap().put(5).unwrap();
        assert_eq!(receiver.get().unwrap(), 5);
        assert!(receiver.get().unwrap_err().is_disconnected());

        let (sender, receiver) = Queue::<u8>::new().unwrap().split();
        let carrier = Queue::new().unwrap();
        carrier.put(receiver).unwrap();
        sender.put(6).unwrap();
        drop(carrier);
        // Nobody can take it out of the carrier any more.
        mp_test::until("the message is gone", || sender.put(7).is_err());
        assert!(sender.put(8).unwrap_err().is_disconnected());
    });
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Wrapped(Sender<u8>);

#[test]
fn a_half_is_not_taken_for_the_other() {
    const TEST: &str = "a_half_is_not_taken_for_the_other";
    if role().is_some() {
        for (name, wrong) in [
            ("sender", take::<Receiver<u8>>("sender").is_err()),
            ("receiver", take::<Queue<u8>>("receiver").is_err()),
        ] {
            assert!(wrong, "{name}");
        }
        take::<Sender<u8>>("whole").unwrap_err();
        take::<Sender<u8>>("wrapped").unwrap().put(3).unwrap();
        return;
    }
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let mut child = command(TEST, "taker");
        give(&mut child, "sender", &queue.clone().into_sender()).unwrap();
        give(&mut child, "receiver", &queue.clone().into_receiver()).unwrap();
        give(&mut child, "whole", &queue).unwrap();
        give(&mut child, "wrapped", &Wrapped(queue.clone().into_sender())).unwrap();
        assert!(Role::start(child).wait().success());
        assert_eq!(queue.get().unwrap(), 3);
    });
}

/// Starts `TEST` in a role that has one half of a queue; the other is here.
fn child_with<E: Serialize + 'static>(test: &str, role: &str, end: &E) -> Role {
    let mut child = command(test, role);
    give(&mut child, "end", end).unwrap();
    Role::start(child)
}

#[test]
fn a_killed_last_sender_ends_its_receivers() {
    const TEST: &str = "a_killed_last_sender_ends_its_receivers";
    if role().is_some() {
        let sender: Sender<u32> = take("end").unwrap();
        (0..10).for_each(|n| sender.put(n).unwrap());
        say("put");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (sender, receiver) = Queue::<u32>::new().unwrap().split();
        let mut children = [child_with(TEST, "sender", &sender), child_with(TEST, "sender", &sender)];
        drop(sender);
        children.iter_mut().for_each(|child| child.expect("put"));
        thread::scope(|scope| {
            // Two wait, one of them a thread; both are told. What was put before is there.
            let counts = scope.spawn(|| receiver.iter().map(Result::unwrap).count());
            children[0].kill();
            children[1].kill();
            let here = receiver.iter().map(Result::unwrap).count();
            assert_eq!(here + counts.join().unwrap(), 20);
        });
    });
}

#[test]
fn a_killed_last_receiver_ends_its_senders() {
    const TEST: &str = "a_killed_last_receiver_ends_its_senders";
    if role().is_some() {
        let receiver: Receiver<u32> = take("end").unwrap();
        assert_eq!(receiver.get().unwrap(), 0);
        say("got");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (sender, receiver) = Queue::bounded(1).unwrap().split();
        sender.put(0).unwrap();
        let mut child = child_with(TEST, "receiver", &receiver);
        drop(receiver);
        child.expect("got");
        sender.put(1).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| assert!(sender.put(2).unwrap_err().is_disconnected()));
            child.kill();
        });
        assert_eq!(sender.put(3).unwrap_err().into_inner(), 3);
    });
}

#[test]
fn a_handle_in_another_process_counts_until_that_one_ends() {
    const TEST: &str = "a_handle_in_another_process_counts_until_that_one_ends";
    if role().is_some() {
        let sender: Sender<u32> = take("end").unwrap();
        say("here");
        while let Some(word) = hear() {
            sender.put(word.parse().unwrap()).unwrap();
        }
        return;
    }
    guarded(|| {
        let (sender, receiver) = Queue::<u32>::new().unwrap().split();
        let mut child = child_with(TEST, "sender", &sender);
        drop(sender);
        child.expect("here");
        for n in 0..3 {
            assert!(receiver.get_timeout(Duration::from_millis(5)).unwrap_err().is_timeout());
            child.tell(&n.to_string());
            assert_eq!(receiver.get().unwrap(), n);
        }
        assert!(child.wait().success());
        assert!(receiver.get().unwrap_err().is_disconnected());
    });
}
