//! Pipes between two processes, and what one gets when the other ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, Passed, Receiver, RecvError, SendError, Sender, give, pipe, pipe_one_way, take};
use mp_test::{Role, command, guarded, hear, role, say, until};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

/// Starts `test` in a second process in `role`, with `value` for it to take.
fn second<T: Serialize + 'static>(test: &str, role: &str, value: &T) -> Role {
    let mut command = command(test, role);
    give(&mut command, "value", value).unwrap();
    Role::start(command)
}

fn signal(role: &Role, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(role.pid()).unwrap()).unwrap(), signal).unwrap();
}

/// Stops `role` and waits until the kernel has stopped it.
fn stop(role: &Role) {
    signal(role, Signal::STOP);
    until("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", role.pid())).unwrap();
        stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
    });
}

/// Runs `waits` in a thread, and `then` once that thread sleeps in the kernel.
fn while_asleep<R: Send>(waits: impl FnOnce() -> R + Send, then: impl FnOnce()) -> R {
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let waits = scope.spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            waits()
        });
        let task = format!("/proc/self/task/{}/stat", told.recv().unwrap().as_raw_nonzero());
        until("it sleeps", || {
            let stat = std::fs::read_to_string(&task).unwrap();
            stat.rsplit_once(')').unwrap().1.trim_start().starts_with('S')
        });
        then();
        waits.join().unwrap()
    })
}

#[test]
fn smoke() {
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        let question: String = connection.recv().unwrap();
        connection.send(format!("{question} answered")).unwrap();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("smoke", "child", &sent);
        kept.send("question".to_owned()).unwrap();
        assert_eq!(kept.recv::<String>().unwrap(), "question answered");
        assert!(kept.recv::<String>().unwrap_err().is_disconnected());
        assert!(child.wait().success());
    });
}

#[test]
fn an_end_that_was_given_away_answers_moved() {
    if role().is_some() {
        let _connection: Connection = take("value").unwrap();
        return;
    }
    guarded(|| {
        let (_kept, mut sent) = pipe().unwrap();
        let mut child = second("an_end_that_was_given_away_answers_moved", "child", &sent);
        assert!(matches!(sent.send(1), Err(SendError::Moved(1))));
        assert!(matches!(sent.recv::<u8>(), Err(RecvError::Moved)));
        assert!(child.wait().success());
    });
}

#[test]
fn streams_and_answers_of_every_size() {
    const SIZES: [usize; 9] = [0, 1, 8, 100, 5_000, 20_000, 70_000, 1 << 20, 64 << 20];
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        for size in SIZES {
            for _ in 0..if size > 1 << 20 { 1 } else { 50 } {
                let mut bytes = connection.recv_bytes().unwrap();
                assert_eq!(bytes.len(), size);
                bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
                connection.send(bytes).unwrap();
            }
        }
        let mut sum = 0;
        for _ in 0..100_000 {
            sum += connection.recv::<u64>().unwrap();
        }
        connection.send(sum).unwrap();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("streams_and_answers_of_every_size", "child", &sent);
        for size in SIZES {
            for n in 0..if size > 1 << 20 { 1 } else { 50 } {
                kept.send(vec![n; size]).unwrap();
                assert!(kept.recv_bytes().unwrap() == vec![n ^ 0xff; size], "{size}");
            }
        }
        (0..100_000_u64).for_each(|n| kept.send(n).unwrap());
        assert_eq!(kept.recv::<u64>().unwrap(), (0..100_000).sum());
        assert!(child.wait().success());
    });
}

#[test]
fn what_a_killed_sender_sent_is_received_then_disconnected() {
    if role().is_some() {
        let mut sender: Sender<(u32, Vec<u8>)> = take("value").unwrap();
        for n in 0..20 {
            sender.send((n, vec![7; 100])).unwrap();
        }
        say("sent");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (sender, mut receiver) = pipe_one_way::<(u32, Vec<u8>)>().unwrap();
        let mut child = second("what_a_killed_sender_sent_is_received_then_disconnected", "child", &sender);
        child.expect("sent");
        child.kill();
        for n in 0..20 {
            assert_eq!(receiver.recv().unwrap(), (n, vec![7; 100]));
        }
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
        assert!(receiver.try_recv().unwrap_err().is_disconnected());
    });
}

#[test]
fn a_sleeping_receiver_learns_that_the_sender_was_killed() {
    if role().is_some() {
        let _connection: Connection = take("value").unwrap();
        say("here");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("a_sleeping_receiver_learns_that_the_sender_was_killed", "child", &sent);
        child.expect("here");
        let result = while_asleep(
            || kept.recv::<u8>(),
            || {
                child.kill();
            },
        );
        assert!(result.unwrap_err().is_disconnected());
    });
}

#[test]
fn a_sleeping_sender_learns_that_the_receiver_was_killed() {
    if role().is_some() {
        let _connection: Connection = take("value").unwrap();
        say("here");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("a_sleeping_sender_learns_that_the_receiver_was_killed", "child", &sent);
        child.expect("here");
        while kept.try_send(vec![1_u64; 16]).is_ok() {}
        let result = while_asleep(
            || kept.send(vec![2_u64; 16]),
            || {
                child.kill();
            },
        );
        assert!(matches!(result, Err(SendError::Disconnected(value)) if value == [2; 16]));
    });
}

#[test]
fn sending_to_one_who_has_just_died_fails() {
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        loop {
            connection.recv::<u32>().unwrap();
        }
    }
    guarded(|| {
        for _ in 0..10 {
            let (mut kept, sent) = pipe().unwrap();
            let mut child = second("sending_to_one_who_has_just_died_fails", "child", &sent);
            (0..100).for_each(|n| kept.send(n).unwrap());
            let asked = Instant::now();
            child.kill();
            // The answer to "does it live" that the burst got is trusted for some tens of microseconds, no longer.
            while asked.elapsed() < Duration::from_millis(1) {
                thread::yield_now();
            }
            // A burst reads the clock for each fourth message only.
            let error = (0..4).find_map(|_| kept.send(7).err()).unwrap();
            assert!(matches!(error, SendError::Disconnected(7)), "{error}");
            assert!(kept.recv::<u8>().unwrap_err().is_disconnected());
        }
    });
}

#[test]
fn a_copy_on_its_way_in_a_message_keeps_the_pipe() {
    if role().is_some() {
        let mut courier: Connection = take("value").unwrap();
        let (mut kept, sent) = pipe().unwrap();
        kept.send("from one who is gone".to_owned()).unwrap();
        courier.send((kept, sent)).unwrap();
        let only: Connection = courier.recv().unwrap();
        courier.send(only).unwrap();
        say("sent");
        let _ = hear();
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let (mut end, other) = pipe().unwrap();
        kept.send(other).unwrap();
        let mut child = second("a_copy_on_its_way_in_a_message_keeps_the_pipe", "child", &sent);
        child.expect("sent");
        // Its process is dead, and the other end is still in a message: alive.
        child.kill();
        end.send(1).unwrap();
        assert!(end.recv_timeout::<u8>(SHORT).unwrap_err().is_timeout());
        let (left, mut right): (Connection, Connection) = kept.recv().unwrap();
        assert_eq!(right.recv::<String>().unwrap(), "from one who is gone");
        drop(left);
        assert!(right.recv::<String>().unwrap_err().is_disconnected());
        let mut other: Connection = kept.recv().unwrap();
        assert_eq!(other.recv::<i32>().unwrap(), 1);
        // Nobody takes it out: gone with the message.
        drop(other);
        assert!(end.send(2).unwrap_err().is_disconnected());
    });
}

#[test]
fn an_end_in_a_message_that_nobody_received_is_gone_with_the_pipe_that_held_it() {
    guarded(|| {
        let (mut left, right) = pipe().unwrap();
        let (mut end, other) = pipe().unwrap();
        left.send(other).unwrap();
        assert!(end.recv_timeout::<u8>(SHORT).unwrap_err().is_timeout());
        drop((left, right));
        assert!(end.recv::<u8>().unwrap_err().is_disconnected());
    });
}

#[test]
fn a_stopped_peer_delays_only_up_to_the_time_out() {
    if role().is_some() {
        let mut connection: Connection = take("value").unwrap();
        say("here");
        while let Ok(bytes) = connection.recv::<Vec<u8>>() {
            connection.send(bytes.len()).unwrap();
        }
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("a_stopped_peer_delays_only_up_to_the_time_out", "child", &sent);
        child.expect("here");
        stop(&child);
        let start = Instant::now();
        assert!(kept.recv_timeout::<usize>(SHORT).unwrap_err().is_timeout());
        let mut count = 0;
        while kept.try_send(vec![1_u8; 1000]).is_ok() {
            count += 1;
        }
        assert!(kept.send_timeout(vec![1_u8; 1000], SHORT).unwrap_err().is_timeout());
        assert!(!kept.poll(SHORT).unwrap());
        assert!(start.elapsed() >= 3 * SHORT);
        signal(&child, Signal::CONT);
        for _ in 0..count {
            assert_eq!(kept.recv::<usize>().unwrap(), 1000);
        }
        drop(kept);
        assert!(child.wait().success());
    });
}

#[test]
fn sizes_up_to_the_limit_leave_no_memory_behind() {
    fn resident() -> u64 {
        // Shared pages of this process, in KiB.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for _ in 0..3 {
            thread::scope(|scope| {
                scope.spawn(|| left.send(vec![1_u8; 64 << 20]).unwrap());
                assert_eq!(right.recv::<Vec<u8>>().unwrap().len(), 64 << 20);
            });
            // Given back as soon as somebody waits for the next one; a wait whose time is over before it sleeps gives back nothing.
            mp_test::until("the memory is given back", || {
                assert!(right.recv_timeout::<u8>(Duration::from_millis(1)).unwrap_err().is_timeout());
                resident() < 32 << 10
            });
        }
    });
}

#[test]
fn a_receiver_hands_its_end_on_in_the_middle_of_a_stream() {
    const COUNT: u64 = 50_000;
    if role().is_some() {
        let mut baton: Connection = take("value").unwrap();
        loop {
            let Ok(mut receiver) = baton.recv::<Receiver<u64>>() else { return };
            let seen: Vec<u64> = (0..100).map_while(|_| receiver.recv().ok()).collect();
            baton.send((seen, receiver)).unwrap();
        }
    }
    guarded(|| {
        let (mut baton, sent) = pipe().unwrap();
        let mut child = second("a_receiver_hands_its_end_on_in_the_middle_of_a_stream", "child", &sent);
        let (mut sender, mut receiver) = pipe_one_way::<u64>().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || (0..COUNT).for_each(|n| sender.send(n).unwrap()));
            let mut all = Vec::new();
            while all.len() < usize::try_from(COUNT).unwrap() {
                baton.send(receiver).unwrap();
                let (seen, back) = baton.recv::<(Vec<u64>, Receiver<u64>)>().unwrap();
                receiver = back;
                all.extend(seen);
                all.extend((0..100).map_while(|_| receiver.recv().ok()));
            }
            assert!(all == (0..COUNT).collect::<Vec<_>>());
        });
        drop(baton);
        assert!(child.wait().success());
    });
}

#[test]
fn files_cross_to_a_process() {
    if role().is_some() {
        use std::io::Write;
        let mut connection: Connection = take("value").unwrap();
        let files: Vec<Passed<std::fs::File>> = connection.recv().unwrap();
        for (n, file) in files.into_iter().enumerate() {
            file.into_inner().write_all(&[u8::try_from(n % 256).unwrap()]).unwrap();
        }
        return;
    }
    guarded(|| {
        use std::io::Read;
        let (mut kept, sent) = pipe().unwrap();
        let mut child = second("files_cross_to_a_process", "child", &sent);
        let (mut readers, mut writers) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let (reader, writer) = std::io::pipe().unwrap();
            readers.push(reader);
            writers.push(Passed(std::fs::File::from(std::os::fd::OwnedFd::from(writer))));
        }
        kept.send(writers).unwrap();
        for (n, mut reader) in readers.into_iter().enumerate() {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, [u8::try_from(n % 256).unwrap()]);
        }
        assert!(child.wait().success());
    });
}
