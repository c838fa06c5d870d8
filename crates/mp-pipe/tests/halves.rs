//! The halves of a connection, in two threads.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, RecvHalf, SendHalf, Waitable, give, pipe, take, wait};
use mp_test::{Role, command, guarded, role};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

fn split() -> (SendHalf, RecvHalf, Connection) {
    let (left, right) = pipe().unwrap();
    let (sending, receiving) = left.split().unwrap();
    (sending, receiving, right)
}

#[test]
fn smoke() {
    guarded(|| {
        let (mut sending, mut receiving, mut right) = split();
        sending.send("question".to_owned()).unwrap();
        assert_eq!(right.recv::<String>().unwrap(), "question");
        right.send_bytes(b"answer").unwrap();
        assert!(receiving.poll(Duration::ZERO).unwrap());
        assert_eq!(receiving.recv_bytes().unwrap(), b"answer");
        assert!(receiving.try_recv::<u8>().unwrap_err().is_empty());
        assert!(receiving.recv_timeout::<u8>(Duration::from_millis(1)).unwrap_err().is_timeout());
        sending.send_bytes(b"x").unwrap();
        sending.try_send(1).unwrap();
        sending.send_timeout(2, Duration::ZERO).unwrap();
        let mut whole = sending.reunite(receiving).unwrap();
        whole.send(3).unwrap();
        right.send_bytes(b"again").unwrap();
        let (sending, mut receiving) = whole.split().unwrap();
        let mut buffer = [0; 5];
        assert_eq!((receiving.recv_bytes_into(&mut buffer).unwrap(), &buffer), (5, b"again"));
        let mut whole = sending.reunite(receiving).unwrap();
        assert_eq!(right.recv_bytes().unwrap(), b"x");
        assert_eq!([right.recv::<i32>().unwrap(), right.recv().unwrap(), right.recv().unwrap()], [1, 2, 3]);
        right.send(4).unwrap();
        assert_eq!(whole.recv::<i32>().unwrap(), 4);
    });
}

#[test]
fn halves_of_two_connections_come_back() {
    guarded(|| {
        let (sending, receiving, mut right) = split();
        let (other_sending, other_receiving, _other) = split();
        let mut back = sending.reunite(other_receiving).unwrap_err().into_inner();
        back.0.send(1).unwrap();
        assert_eq!(right.recv::<i32>().unwrap(), 1);
        drop((receiving, other_sending));
    });
}

/// One thread fills the pipe and sleeps for room, the other sleeps for messages, and so do both threads of another process: each
/// bell may be read by the half that it was not for. A missed one would cost a slice, and thousands the watchdog's patience.
#[test]
fn both_halves_sleep_on_both_sides_and_miss_nothing() {
    const ME: &str = "both_halves_sleep_on_both_sides_and_miss_nothing";
    const COUNT: u32 = 20_000;
    fn both_ways(connection: Connection) {
        let (mut sending, mut receiving) = connection.split().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    sending.send(vec![n; 1 + (n as usize * 37) % 4000]).unwrap();
                }
                // Kept until the other end has everything, as a whole connection would be.
                sending
            });
            for n in 0..COUNT {
                assert_eq!(receiving.recv::<Vec<u32>>().unwrap()[0], n);
                if n % 1000 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
    }
    if role().is_some() {
        return both_ways(take("connection").unwrap());
    }
    guarded(|| {
        let (ours, theirs) = pipe().unwrap();
        let mut child = command(ME, "child");
        give(&mut child, "connection", &theirs).unwrap();
        let mut child = Role::start(child);
        both_ways(ours);
        assert!(child.wait().success());
    });
}

/// The receiving half is polled from outside while the sending half sleeps for room and reads the bells.
#[test]
fn a_polled_half_misses_nothing_while_the_other_sleeps() {
    const COUNT: u32 = 5_000;
    guarded(|| {
        let (mut sending, mut receiving, right) = split();
        let (mut back, mut there) = right.split().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || (0..COUNT).for_each(|n| sending.send(vec![n; 3000]).unwrap()));
            scope.spawn(move || {
                // Each answer is sent only after the pipe was full, and the next waits for it to be taken.
                for n in 0..COUNT {
                    assert_eq!(there.recv::<Vec<u32>>().unwrap()[0], n);
                    back.send(n).unwrap();
                }
            });
            for n in 0..COUNT {
                loop {
                    let mut polled = [PollFd::from_borrowed_fd(receiving.as_fd(), PollFlags::IN)];
                    while !matches!(poll(&mut polled, None), Ok(1)) {}
                    match receiving.try_recv::<u32>() {
                        Ok(found) => break assert_eq!(found, n),
                        Err(error) => assert!(error.is_empty(), "{error}"),
                    }
                }
            }
        });
    });
}

#[test]
fn a_dropped_sending_half_ends_the_other_ends_receiving_alone() {
    guarded(|| {
        let (mut sending, mut receiving, mut right) = split();
        sending.send(1).unwrap();
        let watched = right.is_ready().unwrap();
        assert!(watched);
        drop(sending);
        assert_eq!(right.recv::<i32>().unwrap(), 1);
        assert!(right.recv::<i32>().unwrap_err().is_disconnected());
        assert_eq!(wait(&[&right], Some(Duration::ZERO)).unwrap(), [0]);
        right.send(2).unwrap();
        assert_eq!(receiving.recv::<i32>().unwrap(), 2);
        drop(receiving);
        mp_test::until("the other end sees it", || {
            right.try_send(3).is_err_and(|error| error.is_disconnected())
        });
    });
}

#[test]
fn who_sleeps_learns_that_a_half_was_dropped() {
    guarded(|| {
        let (sending, receiving, mut right) = split();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| right.recv::<i32>());
            drop(sending);
            assert!(receiver.join().unwrap().unwrap_err().is_disconnected());
        });
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                loop {
                    if let Err(error) = right.send(vec![0_u8; 10_000]) {
                        return error.is_disconnected();
                    }
                }
            });
            drop(receiving);
            assert!(sender.join().unwrap());
        });
    });
}

#[test]
fn who_polls_from_outside_learns_that_the_sending_half_was_dropped() {
    guarded(|| {
        let (sending, _receiving, mut right) = split();
        thread::scope(|scope| {
            let poller = scope.spawn(|| {
                loop {
                    let mut polled = [PollFd::from_borrowed_fd(right.as_fd(), PollFlags::IN)];
                    while !matches!(poll(&mut polled, None), Ok(1)) {}
                    match right.try_recv::<i32>() {
                        Err(error) if error.is_empty() => {}
                        other => return other.is_err_and(|error| error.is_disconnected()),
                    }
                }
            });
            drop(sending);
            assert!(poller.join().unwrap());
        });
    });
}
