//! Handles in messages: files, ends of pipes, many at once; and what becomes of them when something goes wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, Passed, Receiver, RecvError, SendError, Sender, Waitable, pipe, pipe_one_way};
use mp_test::{Role, command, guarded, role};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A kernel pipe whose writing end can be passed on.
fn tube() -> (io::PipeReader, Passed<File>) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, Passed(File::from(OwnedFd::from(writer))))
}

fn all(mut reader: io::PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

fn null() -> Passed<File> {
    Passed(File::open("/dev/null").unwrap())
}

#[test]
fn smoke() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (reader, file) = tube();
        left.send(("a file".to_owned(), file)).unwrap();
        let (text, file) = right.recv::<(String, Passed<File>)>().unwrap();
        file.into_inner().write_all(text.as_bytes()).unwrap();
        assert_eq!(all(reader), "a file");
    });
}

#[test]
fn each_message_has_its_own_handles_also_around_a_ring_s_end() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for round in 0..100 {
            let mut readers = Vec::new();
            for n in 0..5 {
                let (reader, file) = tube();
                readers.push((format!("{round}.{n}"), reader));
                left.send((vec![0_u16; 1000], format!("{round}.{n}"), file)).unwrap();
                left.send(()).unwrap();
            }
            for _ in 0..5 {
                let (_, text, file) = right.recv::<(Vec<u16>, String, Passed<File>)>().unwrap();
                file.into_inner().write_all(text.as_bytes()).unwrap();
                right.recv::<()>().unwrap();
            }
            for (text, reader) in readers {
                assert_eq!(all(reader), text);
            }
        }
    });
}

#[test]
fn an_end_moves_with_what_is_in_it_and_answers_moved_where_it_was() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut kept, mut sent) = pipe().unwrap();
        kept.send("before".to_owned()).unwrap();
        sent.send("left behind".to_owned()).unwrap();
        let ends = std::sync::Arc::new(std::sync::Mutex::new(sent));
        left.send(Shared(ends.clone())).unwrap();
        {
            let mut sent = ends.lock().unwrap();
            assert!(matches!(sent.send(1), Err(SendError::Moved(1))));
            assert!(matches!(sent.recv::<u8>(), Err(RecvError::Moved)));
            assert!(matches!(sent.poll(Duration::MAX), Err(RecvError::Moved)));
            // Whoever waits for it learns that at once.
            assert_eq!(mp_pipe::wait(&[&*sent], None).unwrap(), [0]);
        }
        assert!(matches!(left.send(Shared(ends)), Err(SendError::Encode(..))));
        let mut arrived = right.recv::<Connection>().unwrap();
        assert_eq!(arrived.recv::<String>().unwrap(), "before");
        kept.send("after".to_owned()).unwrap();
        assert_eq!(arrived.recv::<String>().unwrap(), "after");
        assert_eq!(kept.recv::<String>().unwrap(), "left behind");
        drop(arrived);
        assert!(kept.recv::<String>().unwrap_err().is_disconnected());
    });
}

/// An end that stays in somebody's hands while it is sent.
#[derive(Debug)]
struct Shared(std::sync::Arc<std::sync::Mutex<Connection>>);

impl Serialize for Shared {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lock().unwrap().serialize(serializer)
    }
}

#[test]
fn a_descriptor_polled_elsewhere_becomes_readable_when_its_end_moves() {
    guarded(|| {
        let (mut left, _right) = pipe().unwrap();
        let (_kept, sent) = pipe().unwrap();
        // A copy, as a reactor in another thread would have it.
        let watched = sent.as_fd().try_clone_to_owned().unwrap();
        let readable = || {
            let mut polled = [rustix::event::PollFd::new(&watched, rustix::event::PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&now)).unwrap() > 0
        };
        assert!(!readable());
        let sent = std::sync::Arc::new(std::sync::Mutex::new(sent));
        left.send(Shared(sent.clone())).unwrap();
        assert!(readable());
    });
}

#[test]
fn ends_travel_in_ends_that_travel() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut outer, outer_sent) = pipe().unwrap();
        let (mut inner, inner_sent) = pipe_one_way::<u32>().unwrap();
        // The inner one is inside of the outer one when that leaves.
        outer.send(Some(inner_sent)).unwrap();
        left.send(outer_sent).unwrap();
        let mut outer = right.recv::<Connection>().unwrap();
        let mut receiver = outer.recv::<Option<Receiver<u32>>>().unwrap().unwrap();
        inner.send(9).unwrap();
        assert_eq!(receiver.recv().unwrap(), 9);
        // Three hops, and two ends in one message.
        let (a, b) = pipe_one_way::<u32>().unwrap();
        left.send((a, b)).unwrap();
        let both = right.recv::<(Sender<u32>, Receiver<u32>)>().unwrap();
        right.send(both).unwrap();
        let (mut a, mut b) = left.recv::<(Sender<u32>, Receiver<u32>)>().unwrap();
        a.send(3).unwrap();
        assert_eq!(b.recv().unwrap(), 3);
    });
}

#[test]
fn an_end_takes_along_the_handles_that_had_arrived_for_it() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut kept, sent) = pipe().unwrap();
        let (first_reader, first) = tube();
        let (second_reader, second) = tube();
        // Armed first: the bell makes it read its socket, and with it the handles, before the messages are received.
        assert!(!sent.is_ready().unwrap());
        sent.wait_fd().unwrap();
        kept.send(first).unwrap();
        kept.send(second).unwrap();
        let mut sent = sent;
        sent.poll(Duration::ZERO).unwrap();
        read_socket(&mut sent);
        left.send(sent).unwrap();
        let mut arrived = right.recv::<Connection>().unwrap();
        for text in ["first", "second"] {
            arrived.recv::<Passed<File>>().unwrap().into_inner().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!((all(first_reader).as_str(), all(second_reader).as_str()), ("first", "second"));
    });
}

/// Makes `end` read its socket while messages are waiting in its ring: it waits for room.
fn read_socket(end: &mut Connection) {
    while end.try_send(vec![0_u8; 1000]).is_ok() {}
    assert!(end.send_timeout(vec![0_u8; 1000], Duration::from_millis(1)).unwrap_err().is_timeout());
}

#[test]
fn more_handles_than_one_call_takes() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for count in [252, 253, 254, 506, 600] {
            let (reader, file) = tube();
            let mut files: Vec<Passed<File>> = (1..count).map(|_| null()).collect();
            files.push(file);
            left.send(files).unwrap();
            let mut files = right.recv::<Vec<Passed<File>>>().unwrap();
            assert_eq!(files.len(), count);
            files.pop().unwrap().into_inner().write_all(b"the last").unwrap();
            drop(files);
            assert_eq!(all(reader), "the last");
        }
    });
}

#[test]
fn too_many_handles_is_an_error_at_once_and_nothing_is_lost() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let mut readers = Vec::new();
        let refused = loop {
            let (reader, file) = tube();
            match left.send((readers.len(), file)) {
                Ok(()) => readers.push(reader),
                Err(error) => break error,
            }
            assert!(readers.len() < 10_000);
        };
        let SendError::TooManyHandles((number, file)) = refused else { panic!("{refused}") };
        assert_eq!(number, readers.len());
        // Messages without handles still go.
        left.send(7_u8).unwrap();
        for (number, reader) in readers.into_iter().enumerate() {
            let (found, file) = right.recv::<(usize, Passed<File>)>().unwrap();
            assert_eq!(found, number);
            file.into_inner().write_all(b"x").unwrap();
            assert_eq!(all(reader), "x");
        }
        assert_eq!(right.recv::<u8>().unwrap(), 7);
        // And there is room again.
        left.send((number, file)).unwrap();
        assert_eq!(right.recv::<(usize, Passed<File>)>().unwrap().0, number);
    });
}

#[test]
fn an_end_that_was_refused_is_still_here() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        while left.send(null()).is_ok() {}
        let (mut kept, sent) = pipe().unwrap();
        let SendError::TooManyHandles(mut sent) = left.send(sent).unwrap_err() else { panic!() };
        sent.send(1).unwrap();
        assert_eq!(kept.recv::<i32>().unwrap(), 1);
        drop(right.recv::<Passed<File>>().unwrap());
        left.send(sent).unwrap();
        // A peer that is gone, too.
        let (mut nobody, gone) = pipe().unwrap();
        drop(gone);
        let SendError::Disconnected(mut kept) = nobody.send(kept).unwrap_err() else { panic!() };
        kept.send(2).unwrap();
    });
}

#[test]
fn a_failed_encoding_gives_the_end_back() {
    #[derive(Debug)]
    struct Half(Connection);
    impl Serialize for Half {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)?;
            Err(serde::ser::Error::custom("half-way"))
        }
    }
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut kept, sent) = pipe().unwrap();
        let SendError::Encode(Half(mut sent), _) = left.send(Half(sent)).unwrap_err() else { panic!() };
        sent.send(1).unwrap();
        assert_eq!(kept.recv::<i32>().unwrap(), 1);
        left.send((sent, 5)).unwrap();
        let (mut sent, _) = right.recv::<(Connection, i32)>().unwrap();
        sent.send(2).unwrap();
        assert_eq!(kept.recv::<i32>().unwrap(), 2);
    });
}

#[test]
fn handles_arrive_after_their_sender_left_with_bells_unread() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (reader, file) = tube();
        // Something rings at the left end, which never looks: the kernel reports that to the right end when it closes.
        left.wait_fd().unwrap();
        right.send(1).unwrap();
        left.send(file).unwrap();
        left.send(null()).unwrap();
        drop(left);
        right.recv::<Passed<File>>().unwrap().into_inner().write_all(b"here").unwrap();
        assert_eq!(all(reader), "here");
        right.recv::<Passed<File>>().unwrap();
        assert!(right.recv::<u8>().unwrap_err().is_disconnected());
    });
}

#[test]
fn handles_of_a_message_that_is_not_wanted_are_closed() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (reader, file) = tube();
        left.send((1_u8, file)).unwrap();
        assert!(matches!(right.recv::<u8>(), Err(RecvError::Decode(_))));
        assert_eq!(all(reader), "", "the last copy of the writing end is closed");
        // Never received at all.
        let (reader, file) = tube();
        left.send(file).unwrap();
        drop((left, right));
        assert_eq!(all(reader), "");
    });
}

#[test]
fn a_receiver_without_room_for_handles_is_told_so_and_goes_on() {
    if role().is_some() {
        let mut connection: Connection = mp_pipe::take("end").unwrap();
        let (_, hard) = limits();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        set_limit(open + 1, hard);
        assert!(matches!(connection.recv::<Vec<Passed<File>>>(), Err(RecvError::TooManyHandles)));
        set_limit(1024, hard);
        assert_eq!(connection.recv::<Vec<Passed<File>>>().unwrap().len(), 3);
        return;
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        kept.send((0..40).map(|_| null()).collect::<Vec<_>>()).unwrap();
        kept.send((0..3).map(|_| null()).collect::<Vec<_>>()).unwrap();
        let mut child = command("a_receiver_without_room_for_handles_is_told_so_and_goes_on", "receiver");
        mp_pipe::give(&mut child, "end", &sent).unwrap();
        assert!(Role::start(child).wait().success());
    });
}

fn limits() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(1 << 20))
}

fn set_limit(current: u64, maximum: u64) {
    let limit = rustix::process::Rlimit { current: Some(current), maximum: Some(maximum) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
