//! Readiness: a queue beside other things in `wait`, in plain `poll`, and under an async runtime.

#![expect(unsafe_code, reason = "tokio wants to be told that a descriptor stays the same")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::pipe;
use mp_queue::{Queue, Readable, Receiver, Sender, Waitable, give, take, wait};
use mp_test::{Role, command, guarded, hear, role, say};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Whether `fd` is readable within `seconds`.
fn readable<F: AsFd>(fd: &F, seconds: i64) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() == 1
}

#[test]
fn smoke() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        assert_eq!(wait(&[&queue], NOW).unwrap(), []);
        assert!(!readable(&queue, 0));
        queue.put(1).unwrap();
        assert_eq!(wait(&[&queue], None).unwrap(), [0]);
        assert!(readable(&queue, 0));
        assert_eq!(queue.get().unwrap(), 1);
        assert_eq!(wait(&[&queue], NOW).unwrap(), []);
        assert!(!readable(&queue, 0));
    });
}

#[test]
fn what_was_inside_before_the_first_poll_is_ready() {
    guarded(|| {
        let (sender, receiver) = Queue::bounded(1).unwrap().split();
        sender.put(1).unwrap();
        assert!(readable(&receiver, 0));
        // Asked for in vain before: it was full then.
        assert_eq!(wait(&[&sender], NOW).unwrap(), []);
        assert!(!readable(&sender, 0));
        receiver.get().unwrap();
        assert!(readable(&sender, 0));
    });
}

#[test]
fn exactly_the_ready_ones_of_a_mix_are_named() {
    guarded(|| {
        let (empty, full) = (Queue::<u8>::new().unwrap(), Queue::bounded(1).unwrap());
        full.put(1).unwrap();
        let (sender, receiver) = full.clone().split();
        let unbounded = empty.clone().into_sender();
        let (mut here, there) = pipe().unwrap();
        let (tube, mut tube_end) = std::io::pipe().unwrap();
        let tube = Readable(tube);
        let child = std::process::Command::new("true").spawn();
        let mut child = child.unwrap();
        let sentinel = mp_core::Identity::of(child.id()).unwrap().open().unwrap();
        let sentinel = Readable(sentinel);
        let all: [&dyn Waitable; 8] =
            [&empty, &full, &sender, &receiver, &unbounded, &there, &tube, &sentinel];
        assert_eq!(wait(&[&sentinel], None).unwrap(), [0]);
        assert_eq!(wait(&all, NOW).unwrap(), [1, 3, 4, 7]);
        here.send(1_u8).unwrap();
        tube_end.write_all(b"x").unwrap();
        full.get().unwrap();
        empty.put(2).unwrap();
        assert_eq!(wait(&all, None).unwrap(), [0, 2, 4, 5, 6, 7]);
        child.wait().unwrap();
    });
}

#[test]
fn a_waiting_wait_is_ended_by_each_kind_of_news() {
    guarded(|| {
        for _ in 0..20 {
            let (empty, full) = (Queue::<u8>::new().unwrap(), Queue::bounded(1).unwrap());
            full.put(0).unwrap();
            let sender = full.clone().into_sender();
            let waiting = |what: &(dyn Waitable + Sync), news: &(dyn Fn() + Sync)| {
                thread::scope(|scope| {
                    scope.spawn(|| assert_eq!(wait(&[what], None).unwrap(), [0]));
                    news();
                });
            };
            waiting(&empty, &|| empty.put(1).unwrap());
            waiting(&sender, &|| _ = full.get().unwrap());
            full.put(0).unwrap();
            waiting(&sender, &|| full.close().unwrap());
            empty.get().unwrap();
            waiting(&empty, &|| empty.close().unwrap());
        }
    });
}

#[test]
fn a_closed_queue_stays_ready() {
    guarded(|| {
        let queue = Queue::bounded(1).unwrap();
        queue.put(1).unwrap();
        let (sender, receiver) = queue.clone().split();
        assert!(!sender.is_ready().unwrap());
        queue.close().unwrap();
        for _ in 0..3 {
            assert!(readable(&sender, 0) && readable(&receiver, 0) && readable(&queue, 0));
            assert_eq!(wait(&[&sender, &receiver, &queue], None).unwrap(), [0, 1, 2]);
            let _ = receiver.try_get();
        }
    });
}

#[test]
fn the_other_side_s_end_is_readiness() {
    guarded(|| {
        let (sender, receiver) = Queue::<u8>::new().unwrap().split();
        assert_eq!(wait(&[&receiver], NOW).unwrap(), []);
        assert!(!readable(&receiver, 0));
        drop(sender);
        assert!(readable(&receiver, 0));
        assert_eq!(wait(&[&receiver], None).unwrap(), [0]);
        let (sender, receiver) = Queue::bounded(1).unwrap().split();
        sender.put(1).unwrap();
        assert_eq!(wait(&[&sender], NOW).unwrap(), []);
        drop(receiver);
        assert!(readable(&sender, 0));
        assert_eq!(wait(&[&sender], None).unwrap(), [0]);
    });
}

/// Gets by plain `poll` alone, without any time-out, until the queue is closed.
fn get_by_poll(receiver: &Receiver<u32>) -> Vec<u32> {
    let mut got = Vec::new();
    loop {
        let mut polled = [PollFd::new(receiver, PollFlags::IN)];
        poll(&mut polled, None).unwrap();
        match receiver.try_get() {
            Ok(value) => got.push(value),
            Err(error) if error.is_empty() => {}
            Err(_) => return got,
        }
    }
}

/// Puts by plain `poll` alone.
fn put_by_poll(sender: &Sender<u32>, values: std::ops::Range<u32>) {
    for value in values {
        while sender.try_put(value).map_err(|error| assert!(error.is_full(), "{error}")).is_err() {
            let mut polled = [PollFd::new(sender, PollFlags::IN)];
            poll(&mut polled, None).unwrap();
        }
    }
}

#[test]
fn plain_poll_misses_nothing() {
    const TEST: &str = "plain_poll_misses_nothing";
    const EACH: u32 = 3_000;
    match role().as_deref() {
        Some("consumer") => {
            let receiver: Receiver<u32> = take("end").unwrap();
            let got = get_by_poll(&receiver);
            return say(&format!("{} {}", got.len(), got.iter().map(|n| u64::from(*n)).sum::<u64>()));
        }
        Some(_) => return put_by_poll(&take("end").unwrap(), 0..EACH),
        None => {}
    }
    guarded(|| {
        for bound in [1, 7] {
            let (sender, receiver) = Queue::<u32>::bounded(bound).unwrap().split();
            let start = |role, give_end: &dyn Fn(&mut std::process::Command)| {
                let mut child = command(TEST, role);
                give_end(&mut child);
                Role::start(child)
            };
            let mut consumers: Vec<Role> =
                (0..2).map(|_| start("consumer", &|c| give(c, "end", &receiver).unwrap())).collect();
            let mut producers: Vec<Role> =
                (0..2).map(|_| start("producer", &|c| give(c, "end", &sender).unwrap())).collect();
            // One that does not poll among those that do.
            thread::scope(|scope| {
                scope.spawn(|| (0..EACH).for_each(|n| sender.put(n).unwrap()));
            });
            assert!(producers.iter_mut().all(|child| child.wait().success()));
            sender.close().unwrap();
            let (mut count, mut sum) = (0, 0);
            for consumer in &mut consumers {
                let word = consumer.word().unwrap();
                let (one, two) = word.split_once(' ').unwrap();
                count += one.parse::<u32>().unwrap();
                sum += two.parse::<u64>().unwrap();
                assert!(consumer.wait().success());
            }
            let each = u64::from(EACH);
            assert_eq!((count, sum), (3 * EACH, 3 * each * (each - 1) / 2));
        }
    });
}

#[test]
fn a_killed_last_sender_is_readiness() {
    const TEST: &str = "a_killed_last_sender_is_readiness";
    if role().is_some() {
        let sender: Sender<u8> = take("end").unwrap();
        sender.put(1).unwrap();
        say("put");
        let _ = hear();
        return drop(sender);
    }
    guarded(|| {
        let (sender, receiver) = Queue::<u8>::new().unwrap().split();
        let mut child = command(TEST, "sender");
        give(&mut child, "end", &sender).unwrap();
        let mut child = Role::start(child);
        drop(sender);
        child.expect("put");
        assert_eq!(wait(&[&receiver], None).unwrap(), [0]);
        receiver.get().unwrap();
        assert_eq!(wait(&[&receiver], NOW).unwrap(), []);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut polled = [PollFd::new(&receiver, PollFlags::IN)];
                assert_eq!(poll(&mut polled, None).unwrap(), 1);
            });
            child.kill();
        });
        assert!(receiver.try_get().unwrap_err().is_disconnected());
    });
}

#[test]
fn tokio_sees_values_and_room() {
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, receiver) = Queue::<u32>::bounded(2).unwrap().split();
        assert!(receiver.as_raw_fd() > 2);
        runtime.block_on(async {
            // SAFETY: a half gives one descriptor, which it keeps open until it is dropped.
            let sender = unsafe { AsyncFd::register_with_interest(sender, Interest::READABLE) }.unwrap();
            // SAFETY: as above.
            let receiver = unsafe { AsyncFd::register_with_interest(receiver, Interest::READABLE) }.unwrap();
            let producer = tokio::spawn(async move {
                for n in 0..2_000 {
                    loop {
                        let mut guard = sender.readable().await.unwrap();
                        match guard.get_inner().try_put(n) {
                            Ok(()) => break,
                            Err(error) => assert!(error.is_full()),
                        }
                        guard.clear_ready();
                    }
                }
            });
            for n in 0..2_000 {
                let value = loop {
                    let mut guard = receiver.readable().await.unwrap();
                    match guard.get_inner().try_get() {
                        Ok(value) => break value,
                        Err(error) => assert!(error.is_empty()),
                    }
                    guard.clear_ready();
                };
                assert_eq!(value, n);
            }
            producer.await.unwrap();
            loop {
                let mut guard = receiver.readable().await.unwrap();
                match receiver.get_ref().try_get().unwrap_err() {
                    error if error.is_disconnected() => break,
                    error => assert!(error.is_empty()),
                }
                guard.clear_ready();
            }
        });
    });
}
