//! Who knows that a peer is dead is told so by the very next send, in the middle of a burst too.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, Receiver, give, pipe, pipe_one_way, take};
use mp_test::{Role, command, guarded, hear, role, say};
use serde::{Deserialize, Serialize};
use std::thread;

#[derive(Serialize, Deserialize)]
struct Ends {
    burst: Receiver<u64>,
    other: Connection,
}

#[test]
fn a_hang_up_seen_by_another_thread_ends_a_burst_at_once() {
    let test = "a_hang_up_seen_by_another_thread_ends_a_burst_at_once";
    if role().is_some() {
        let _ends: Ends = take("ends").unwrap();
        say("here");
        // Until it is killed.
        let _ = hear();
        return;
    }
    guarded(|| {
        for _ in 0..20 {
            let (mut sender, burst) = pipe_one_way::<u64>().unwrap();
            let (mut watched, other) = pipe().unwrap();
            let mut command = command(test, "peer");
            give(&mut command, "ends", &Ends { burst, other }).unwrap();
            let mut peer = Role::start(command);
            peer.expect("here");
            let watcher =
                thread::spawn(move || assert!(watched.recv::<u64>().unwrap_err().is_disconnected()));
            for n in 0..200 {
                sender.send(n).unwrap();
            }
            peer.kill();
            watcher.join().unwrap();
            assert!(sender.send(200).unwrap_err().is_disconnected(), "a burst went on");
        }
    });
}

#[test]
fn a_writer_that_waits_for_an_empty_ring_learns_of_the_end() {
    guarded(|| {
        for _ in 0..50 {
            let (mut here, mut there) = pipe().unwrap();
            for _ in 0..200 {
                here.send_bytes(&[1; 200]).unwrap();
            }
            // Space was given back that this writer has not counted, and some messages stay.
            for _ in 0..150 {
                there.recv_bytes().unwrap();
            }
            let reader = thread::spawn(move || drop(there));
            // Too large for the ring: it waits until all is taken, which never happens.
            assert!(here.send_bytes(&vec![1; 100_000]).unwrap_err().is_disconnected());
            reader.join().unwrap();
        }
    });
}
