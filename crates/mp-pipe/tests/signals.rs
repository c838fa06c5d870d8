//! A hail of signals that interrupt whatever the kernel does: no operation ends early for it, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{
    Address, Client, ConnectError, Connection, Key, Listener, Passed, Readable, RecvTimeoutError,
    SendTimeoutError, connect, pipe, pipe_one_way, wait,
};
use mp_test::{Hail, guarded};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const LONG: Duration = Duration::from_millis(60);

/// Runs `operation` on this thread under a hail that hits at least once, and which does not make it any shorter than `at_least`.
fn under_hail<R>(at_least: Duration, operation: impl FnOnce() -> R) -> R {
    let (start, hail) = (Instant::now(), Hail::here());
    let result = operation();
    assert!(start.elapsed() >= at_least, "it ended early");
    mp_test::until("a signal has come", || hail.hits() > 0);
    result
}

fn key() -> Key {
    Key::new("the key of these tests")
}

#[test]
fn no_time_out_ends_early() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let late = under_hail(LONG, || right.recv_timeout::<u8>(LONG));
        assert!(matches!(late, Err(RecvTimeoutError::TimedOut)));
        assert!(!under_hail(LONG, || right.poll(LONG)).unwrap());
        let (quiet, _end) = std::io::pipe().unwrap();
        let quiet = Readable(quiet);
        assert_eq!(under_hail(LONG, || wait(&[&right, &quiet], Some(LONG))).unwrap(), []);
        while left.try_send(vec![1_u8; MIB]).is_ok() {}
        let late = under_hail(LONG, || left.send_timeout(vec![2_u8; MIB], LONG));
        assert!(matches!(late, Err(SendTimeoutError::TimedOut(value)) if value == vec![2; MIB]));
        let mut listener = Listener::bind(Address::unique().unwrap(), None).unwrap();
        assert!(under_hail(LONG, || listener.accept_timeout(LONG)).unwrap().is_none());
        let client = Client::new(listener.local_address().clone()).timeout(LONG);
        assert!(matches!(under_hail(LONG, || client.connect()), Err(ConnectError::TimedOut)));
    });
}

#[test]
fn both_sides_of_a_stream_are_hailed_on_and_every_message_comes() {
    const COUNT: u32 = 300;
    /// From nothing to larger than the ring; each third message is waited for.
    fn message(n: u32) -> Vec<u8> {
        let length = [0, 10, 5_000, 70_000, 2 * MIB][n as usize % 5];
        vec![n.to_le_bytes()[0]; length]
    }
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let hail = Hail::here();
                for n in 0..COUNT {
                    left.send(message(n)).unwrap();
                    if n % 3 == 0 {
                        assert_eq!(left.recv::<u32>().unwrap(), n);
                    }
                }
                assert!(hail.hits() > 0);
            });
            let _hail = Hail::here();
            for n in 0..COUNT {
                assert!(right.recv::<Vec<u8>>().unwrap() == message(n), "{n}");
                if n % 3 == 0 {
                    right.send(n).unwrap();
                }
            }
            assert!(right.recv::<u8>().unwrap_err().is_disconnected());
        });
    });
}

#[test]
fn who_sleeps_under_a_hail_is_woken() {
    guarded(|| {
        let (mut sender, mut receiver) = pipe_one_way::<u32>().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let _hail = Hail::here();
                for n in 0..100 {
                    assert_eq!(wait(&[&receiver], None).unwrap(), [0]);
                    assert_eq!(receiver.recv().unwrap(), n);
                }
                // The end is a wake as well.
                assert!(receiver.recv().unwrap_err().is_disconnected());
            });
            for n in 0..100 {
                thread::sleep(Duration::from_millis(1));
                sender.send(n).unwrap();
            }
            drop(sender);
        });
    });
}

#[test]
fn handles_arrive_whole_through_a_hail() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let _hail = Hail::here();
                for _ in 0..20 {
                    let (reader, writer) = std::io::pipe().unwrap();
                    let copies: Vec<Passed<File>> = (0..300)
                        .map(|_| Passed(File::from(OwnedFd::from(writer.try_clone().unwrap()))))
                        .collect();
                    drop(writer);
                    left.send(copies).unwrap();
                    let mut text = String::new();
                    { reader }.read_to_string(&mut text).unwrap();
                    assert_eq!(text.len(), 300);
                }
            });
            let _hail = Hail::here();
            for _ in 0..20 {
                let copies = right.recv::<Vec<Passed<File>>>().unwrap();
                assert_eq!(copies.len(), 300);
                for copy in copies {
                    rustix::io::write(&copy.0, b"x").unwrap();
                }
            }
        });
    });
}

/// Ends move, and come back, while their owners are interrupted.
#[test]
fn an_end_moves_through_a_hail() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut kept, mut sent) = pipe().unwrap();
        let _hail = Hail::here();
        for n in 0..100_u32 {
            kept.send(n).unwrap();
            left.send(sent).unwrap();
            let mut here: Connection = right.recv().unwrap();
            assert_eq!(here.recv::<u32>().unwrap(), n);
            sent = here;
        }
    });
}

#[test]
fn clients_get_in_through_a_hail_on_both_sides() {
    guarded(|| {
        let address = Address::unique().unwrap();
        let mut listener = Listener::bind(&address, key()).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let hail = Hail::here();
                for n in 0..30 {
                    let (mut connection, _) = listener.accept().unwrap();
                    connection.send(n).unwrap();
                }
                assert!(hail.hits() > 0);
                // Nobody knocks any more, and no signal is a client.
                assert!(listener.accept_timeout(LONG).unwrap().is_none());
            });
            let _hail = Hail::here();
            for n in 0..30 {
                // So that it sleeps in its accept.
                thread::sleep(Duration::from_millis(2));
                let mut connection = connect(&address, key()).unwrap();
                assert_eq!(connection.recv::<i32>().unwrap(), n);
            }
            server.join().unwrap();
        });
    });
}
