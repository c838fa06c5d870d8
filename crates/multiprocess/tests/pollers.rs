//! What can be waited for as descriptors, and pollers that die.

use mp_test::guarded;
use multiprocess::lock::Event;
use multiprocess::pipe::{Connection, Waitable, wait};
use multiprocess::{Process, Queue, RemoteError, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

multiprocess::enable_test_support!();

/// Everything that can be waited for is a descriptor for others' loops, and the same one each time.
#[test]
fn all_of_them_are_descriptors() {
    fn is_one<T: Waitable + AsFd + AsRawFd>(thing: &T) {
        let fd: BorrowedFd<'_> = thing.as_fd();
        assert_eq!(fd.as_raw_fd(), thing.as_raw_fd());
        assert_eq!(thing.wait_fd().expect("a descriptor").as_raw_fd(), thing.as_raw_fd());
    }
    fn nothing() {}
    guarded(|| {
        let (left, right) = pipe().expect("a pipe");
        let (sender, receiver) = Queue::<u8>::new().expect("a queue").split();
        is_one(&left);
        is_one(&receiver);
        is_one(&Queue::<u8>::new().expect("a queue"));
        is_one(&Event::new().expect("an event"));
        let (_sending, receiving) = right.split().expect("halves");
        is_one(&receiving);
        let process = Process::spawn(nothing, ()).expect("a process");
        is_one(&process);
        process.join().expect("it ended");
        drop(sender);
    });
}

/// Polls, takes one value, says so, and waits to be killed with the bells drained and nothing more taken.
fn polls_and_dies(queue: Queue<u32>, mut report: Connection) -> Result<(), RemoteError> {
    wait(&[&queue], None)?;
    report.send(queue.get()?)?;
    wait(&[&queue], None)?;
    report.send(0_u32)?;
    Ok(report.recv::<()>()?)
}

/// Pollers of one queue die after they have seen that it is ready, and drained what told them: those that live see it as well.
#[test]
fn pollers_that_die_after_draining_leave_the_others_awake() {
    guarded(|| {
        let queue = Queue::<u32>::new().expect("a queue");
        // In pollable mode from here on.
        assert_eq!(wait(&[&queue], Some(Duration::ZERO)).expect("wait"), []);
        for round in 1..=20 {
            let pollers: Vec<_> = (0..2)
                .map(|_| {
                    let (ours, theirs) = pipe().expect("a pipe");
                    let process =
                        Process::builder().daemon(true).spawn(polls_and_dies, (queue.clone(), theirs));
                    (process.expect("a process"), ours)
                })
                .collect();
            for _ in &pollers {
                queue.put(round).expect("room");
            }
            let mut connections = Vec::new();
            for (process, mut ours) in pollers {
                assert_eq!(ours.recv::<u32>().expect("what it took"), round);
                connections.push((process, ours));
            }
            queue.put(round + 1000).expect("room");
            for (process, mut ours) in connections {
                // Both have seen the one value; neither has taken it.
                assert_eq!(ours.recv::<u32>().expect("that it is ready"), 0);
                process.kill().expect("kill");
                process.wait().expect("its end");
            }
            // A miss would be a wait for ever.
            assert_eq!(wait(&[&queue], None).expect("wait"), [0]);
            assert_eq!(queue.try_get().expect("the value"), round + 1000);
            assert_eq!(wait(&[&queue], Some(Duration::ZERO)).expect("wait"), []);
        }
    });
}
