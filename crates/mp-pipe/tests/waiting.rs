//! Waiting on many things, and the descriptors behind it: readiness may be spurious, it is never missed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, Readable, Receiver, Sender, Waitable, give, pipe, pipe_one_way, take, wait};
use mp_test::{Role, command, guarded, hear, role, say};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

/// Plain `poll`, for ever: nothing but the descriptor tells.
fn poll_readable(fd: BorrowedFd<'_>) {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    while !matches!(poll(&mut polled, None), Ok(1)) {}
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

/// A cheap generator: the same numbers each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn smoke() {
    guarded(|| {
        let (mut left, right) = pipe().unwrap();
        assert_eq!(wait(&[&right], Some(Duration::ZERO)).unwrap(), []);
        left.send(1).unwrap();
        assert_eq!(wait(&[&right], None).unwrap(), [0]);
    });
}

#[test]
fn exactly_the_ready_ones_of_a_mix_are_named() {
    guarded(|| {
        let (mut left, right) = pipe().unwrap();
        let (mut sender, mut receiver) = pipe_one_way::<u8>().unwrap();
        let (file, mut file_end) = std::io::pipe().unwrap();
        let (gone, gone_end) = pipe().unwrap();
        let file = Readable(file);
        let items: [&dyn Waitable; 3] = [&right, &receiver, &file];
        let start = Instant::now();
        assert_eq!(wait(&items, Some(SHORT)).unwrap(), []);
        assert!(start.elapsed() >= SHORT);
        sender.send(1).unwrap();
        assert_eq!(wait(&items, None).unwrap(), [1]);
        left.send(1).unwrap();
        assert_eq!(wait(&items, None).unwrap(), [0, 1]);
        file_end.write_all(b"x").unwrap();
        assert_eq!(wait(&items, None).unwrap(), [0, 1, 2]);
        receiver.recv().unwrap();
        assert_eq!(wait(&[&right, &receiver, &file], None).unwrap(), [0, 2]);
        drop(gone_end);
        assert_eq!(wait(&[&receiver, &gone], None).unwrap(), [1]);
        drop(sender);
        assert_eq!(wait(&[&receiver, &gone], None).unwrap(), [0, 1]);
    });
}

#[test]
fn a_sleeping_wait_sees_what_another_process_does() {
    if role().is_some() {
        let (mut connection, mut sender): (Connection, Sender<u32>) = take("ends").unwrap();
        while let Some(word) = hear() {
            match word.as_str() {
                "connection" => connection.send(1_u32).unwrap(),
                "sender" => sender.send(2).unwrap(),
                _ => return,
            }
        }
        return;
    }
    guarded(|| {
        let (mut kept, connection) = pipe().unwrap();
        let (sender, mut receiver) = pipe_one_way::<u32>().unwrap();
        let mut child = command("a_sleeping_wait_sees_what_another_process_does", "child");
        give(&mut child, "ends", &(connection, sender)).unwrap();
        let mut child = Role::start(child);
        for round in 0..50 {
            if round % 2 == 0 {
                child.tell("connection");
                assert_eq!(wait(&[&kept, &receiver], None).unwrap(), [0]);
                assert_eq!(kept.recv::<u32>().unwrap(), 1);
            } else {
                child.tell("sender");
                assert_eq!(wait(&[&kept, &receiver], None).unwrap(), [1]);
                assert_eq!(receiver.recv().unwrap(), 2);
            }
        }
        child.kill();
        while wait(&[&kept, &receiver], None).unwrap() != [0, 1] {}
        assert!(kept.recv::<u32>().unwrap_err().is_disconnected());
        assert!(receiver.recv().unwrap_err().is_disconnected());
    });
}

#[test]
fn plain_poll_misses_nothing() {
    const COUNT: u64 = 30_000;
    // What it hunts: two messages for one bell, a message between the last look and the arming, a bell that was drained
    // together with another's, messages taken by other operations than the one that was told.
    for seed in 1..=4_u64 {
        guarded(|| {
            let (mut sender, mut receiver) = pipe_one_way::<u64>().unwrap();
            let seen = AtomicU64::new(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut state, mut n) = (seed * 77, 0);
                    while n < COUNT {
                        // Nothing more comes until these were seen: a miss is not made good by the next message.
                        for _ in 0..(1 + random(&mut state) % 3).min(COUNT - n) {
                            sender.send(n).unwrap();
                            n += 1;
                            (0..random(&mut state) % 500).for_each(|_| std::hint::spin_loop());
                        }
                        while seen.load(Relaxed) < n {
                            thread::yield_now();
                        }
                        (0..random(&mut state) % 2000).for_each(|_| std::hint::spin_loop());
                    }
                });
                let (mut state, mut next) = (seed, 0);
                while next < COUNT {
                    // Only the descriptor says when to look.
                    poll_readable(receiver.as_fd());
                    let most = 1 + random(&mut state) % 4;
                    for _ in 0..most {
                        let found = match random(&mut state) % 4 {
                            0 => receiver.try_recv().ok(),
                            1 => receiver.recv_timeout(Duration::ZERO).ok(),
                            2 if receiver.poll(Duration::ZERO).unwrap() => receiver.recv().ok(),
                            2 => None,
                            _ => {
                                let _ = receiver.is_ready().unwrap();
                                receiver.try_recv().ok()
                            }
                        };
                        let Some(found) = found else { break };
                        assert_eq!(found, next);
                        next += 1;
                        seen.store(next, Relaxed);
                    }
                }
            });
        });
    }
}

#[test]
fn edge_triggered_epoll_misses_nothing_when_emptied() {
    const COUNT: u64 = 20_000;
    guarded(|| {
        let (mut sender, mut receiver) = pipe_one_way::<u64>().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    sender.send(n).unwrap();
                    if n % 5 == 0 {
                        thread::yield_now();
                    }
                }
            });
            let reactor = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&reactor, receiver.as_fd(), epoll::EventData::new_u64(0), events).unwrap();
            let mut next = 0;
            while next < COUNT {
                let mut found = [MaybeUninit::uninit(); 1];
                let _ = epoll::wait(&reactor, &mut found, None);
                loop {
                    match receiver.try_recv() {
                        Ok(n) => assert_eq!(n, next),
                        Err(error) if error.is_empty() || next == COUNT => break,
                        Err(error) => panic!("{error}"),
                    }
                    next += 1;
                }
            }
        });
    });
}

#[test]
fn a_connection_that_sends_while_it_is_polled_misses_nothing() {
    const COUNT: u32 = 3_000;
    if role().is_some() {
        let mut connection: Connection = take("end").unwrap();
        let mut state = 5;
        for n in 0..COUNT {
            connection.send(vec![n; 200]).unwrap();
            if random(&mut state).is_multiple_of(3) {
                poll_readable(connection.as_fd());
                assert_eq!(connection.recv::<Vec<u32>>().unwrap().len(), 1000);
            }
        }
        drop(connection);
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = command("a_connection_that_sends_while_it_is_polled_misses_nothing", "child");
        give(&mut child, "end", &sent).unwrap();
        let mut child = Role::start(child);
        let mut state = 5;
        for n in 0..COUNT {
            poll_readable(kept.as_fd());
            assert_eq!(kept.recv::<Vec<u32>>().unwrap(), vec![n; 200]);
            if random(&mut state).is_multiple_of(3) {
                // Sleeps for room now and then, and reads its bells there.
                kept.send(vec![n; 1000]).unwrap();
            }
        }
        poll_readable(kept.as_fd());
        assert!(kept.recv::<u8>().unwrap_err().is_disconnected());
        assert!(child.wait().success());
    });
}

#[test]
fn an_unread_message_keeps_the_descriptor_readable() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        assert!(!is_readable(right.as_fd()));
        left.send(String::new()).unwrap();
        left.send(String::new()).unwrap();
        for _ in 0..3 {
            assert!(is_readable(right.as_fd()));
            assert!(right.poll(Duration::ZERO).unwrap());
        }
        right.recv::<String>().unwrap();
        assert!(is_readable(right.as_fd()));
        right.recv::<String>().unwrap();
        assert!(right.try_recv::<String>().unwrap_err().is_empty());
        assert!(!is_readable(right.as_fd()));
        assert_eq!(right.as_fd().as_raw_fd(), right.as_raw_fd());
        // Polled for the first time when there is something already.
        right.send(1).unwrap();
        assert!(is_readable(left.as_fd()));
        drop(right);
        left.recv::<i32>().unwrap();
        assert!(is_readable(left.as_fd()), "the other end is gone: a receive would not block");
    });
}

#[test]
fn a_killed_peer_makes_the_descriptor_readable() {
    if role().is_some() {
        let _connection: Connection = take("end").unwrap();
        say("here");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = command("a_killed_peer_makes_the_descriptor_readable", "child");
        give(&mut child, "end", &sent).unwrap();
        let mut child = Role::start(child);
        child.expect("here");
        assert!(!is_readable(kept.as_fd()));
        thread::scope(|scope| {
            let polls = scope.spawn(|| poll_readable(kept.as_fd()));
            child.kill();
            polls.join().unwrap();
        });
        assert!(kept.recv::<u8>().unwrap_err().is_disconnected());
    });
}

#[test]
fn four_pipes_to_the_end() {
    guarded(|| {
        let mut receivers: Vec<Receiver<(usize, u32)>> = Vec::new();
        thread::scope(|scope| {
            for pipe in 0..4 {
                let (mut sender, receiver) = pipe_one_way().unwrap();
                receivers.push(receiver);
                scope.spawn(move || (0..500).for_each(|n| sender.send((pipe, n)).unwrap()));
            }
            let (mut seen, mut open) = ([0; 4], vec![true; 4]);
            while open.contains(&true) {
                let living: Vec<usize> = (0..4).filter(|pipe| open[*pipe]).collect();
                let items: Vec<&dyn Waitable> =
                    living.iter().map(|pipe| &receivers[*pipe] as &dyn Waitable).collect();
                let ready = wait(&items, None).unwrap();
                for pipe in ready.into_iter().map(|index| living[index]) {
                    match receivers[pipe].try_recv() {
                        Ok(found) => {
                            assert_eq!(found, (pipe, seen[pipe]));
                            seen[pipe] += 1;
                        }
                        Err(error) => {
                            assert!(
                                error.is_disconnected(),
                                "ready says that a receive does not block: {error}"
                            );
                            open[pipe] = false;
                        }
                    }
                }
            }
            assert_eq!(seen, [500; 4]);
        });
    });
}

#[test]
fn an_end_that_moved_is_watched_where_it_is() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut sender, receiver) = pipe_one_way::<u32>().unwrap();
        // Armed here, then moved: the new owner's own descriptor tells.
        receiver.as_fd();
        left.send(receiver).unwrap();
        sender.send(1).unwrap();
        let mut receiver = right.recv::<Receiver<u32>>().unwrap();
        sender.send(2).unwrap();
        for n in 1..=2 {
            poll_readable(receiver.as_fd());
            assert_eq!(receiver.recv().unwrap(), n);
        }
        assert!(!is_readable(receiver.as_fd()));
        sender.send(3).unwrap();
        poll_readable(receiver.as_fd());
        assert_eq!(receiver.recv().unwrap(), 3);
    });
}
