//! Handles in values: files, queues, ends of pipes, many at once; and what becomes of them when something goes wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{all, tube};
use mp_pipe::{Connection, SendError, pipe};
use mp_queue::{GetError, Passed, PutError, Queue, Sender, TryGetError};
use mp_test::guarded;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

#[test]
fn each_value_has_its_own_handles() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for round in 0..50 {
            let mut readers = Vec::new();
            for n in 0..5 {
                let (reader, file) = tube();
                let text = format!("{round}.{n}");
                queue.put(Some((text.clone(), file))).unwrap();
                queue.put(None).unwrap();
                readers.push((text, reader));
            }
            for _ in 0..5 {
                let (text, Passed(mut file)) = queue.get().unwrap().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                assert!(queue.get().unwrap().is_none());
            }
            for (text, reader) in readers {
                assert_eq!(all(reader), text);
            }
        }
    });
}

#[test]
fn a_queue_travels_through_a_queue() {
    guarded(|| {
        let (outer, inner) = (Queue::new().unwrap(), Queue::bounded(2).unwrap());
        outer.put(inner.clone()).unwrap();
        let twin = outer.get().unwrap();
        assert_eq!(twin.bound(), Some(2));
        inner.put("one".to_owned()).unwrap();
        twin.put("two".to_owned()).unwrap();
        assert!(inner.is_full() && twin.is_full());
        assert_eq!((twin.get().unwrap(), inner.get().unwrap()), ("one".into(), "two".into()));
        twin.close().unwrap();
        assert!(inner.is_closed());
    });
}

#[test]
fn the_end_of_a_pipe_moves_through_a_queue() {
    guarded(|| {
        let queue: Queue<(u32, Connection)> = Queue::new().unwrap();
        let (mut here, there) = pipe().unwrap();
        here.send("before".to_owned()).unwrap();
        queue.put((7, there)).unwrap();
        let (number, mut there) = queue.get().unwrap();
        assert_eq!(there.recv::<String>().unwrap(), "before");
        there.send(number).unwrap();
        assert_eq!(here.recv::<u32>().unwrap(), 7);
    });
}

/// An end that its sender still holds when it is put.
struct Kept(Arc<Connection>);

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[test]
fn an_end_that_was_put_is_used_by_whom_gets_it_and_nobody_else() {
    guarded(|| {
        let (mut here, there) = pipe().unwrap();
        let there = Arc::new(there);
        let queue = Queue::bounded(1).unwrap();
        queue.put(Kept(Arc::clone(&there))).unwrap();
        let mut there = Arc::into_inner(there).unwrap();
        assert!(matches!(there.send(1_u8), Err(SendError::Moved(1))));
        drop(queue);
        // It went down with the queue.
        assert!(here.recv::<u8>().unwrap_err().is_disconnected());
    });
}

#[test]
fn a_full_queue_gives_the_handles_back_too() {
    guarded(|| {
        let queue = Queue::bounded(1).unwrap();
        let (mut here, there) = pipe().unwrap();
        queue.put(None).unwrap();
        let there = queue.try_put(Some(there)).unwrap_err().into_inner();
        // It was not moved: it can be used, and be sent when there is room.
        let mut there: Connection = there.unwrap();
        there.send(1_u8).unwrap();
        assert_eq!(here.recv::<u8>().unwrap(), 1);
        assert!(queue.get().unwrap().is_none());
        queue.put(Some(there)).unwrap();
        queue.get().unwrap().unwrap().send(2_u8).unwrap();
        assert_eq!(here.recv::<u8>().unwrap(), 2);
    });
}

#[test]
fn a_value_may_have_more_handles_than_the_kernel_takes_at_once() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let (mut reader, Passed(file)) = tube();
        for round in 0..2 {
            let files: Vec<_> = (0..300).map(|_| Passed(file.try_clone().unwrap())).collect();
            queue.put(files).unwrap();
            let files = queue.get().unwrap();
            assert_eq!(files.len(), 300, "round {round}");
            files.into_iter().for_each(|Passed(mut file)| file.write_all(b"x").unwrap());
        }
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 600);
    });
}

#[test]
fn a_used_up_budget_is_an_error_at_once_and_getting_frees_it() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for _ in 0..2 {
            let mut inside = 0;
            let refused = loop {
                match queue.put((inside, Passed(File::open("/dev/null").unwrap()))) {
                    Ok(()) => inside += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, PutError::TooManyHandles((n, _)) if n == inside), "{refused}");
            assert_eq!(queue.len(), inside);
            for n in 0..inside {
                assert_eq!(queue.get().unwrap().0, n);
            }
        }
    });
}

#[derive(Debug, Serialize, Deserialize)]
enum Cargo {
    File(Passed<File>),
    Queues(Vec<Queue<()>>),
}

#[test]
fn handles_of_a_value_that_was_refused_half_way_take_nobody_s_room() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        // Three handles each, the same ones, so they are cheap; nearly all that one value may have.
        let many = vec![Queue::new().unwrap(); 21_000];
        let refused = loop {
            match queue.put(Cargo::Queues(many.clone())) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, PutError::TooManyHandles(_)), "{refused}");
        drop((refused, many));
        // Whether there is room for so many in this process is another question; the values are gone in any case.
        loop {
            match queue.try_get() {
                Ok(_) | Err(TryGetError::Failed(GetError::TooManyHandles)) => {}
                Err(error) => break assert!(error.is_empty(), "{error}"),
            }
        }
        // As many as ever fit, nearly.
        let tubes: Vec<_> = (0..200).map(|_| tube()).collect();
        let readers: Vec<_> =
            tubes.into_iter().map(|(reader, file)| (queue.put(Cargo::File(file)), reader)).collect();
        for (put, reader) in readers {
            put.unwrap();
            let Cargo::File(Passed(mut file)) = queue.get().unwrap() else { panic!("not the file") };
            file.write_all(b"room").unwrap();
            drop(file);
            assert_eq!(all(reader), "room");
        }
    });
}

#[test]
fn nothing_of_a_value_that_was_refused_half_way_keeps_anybody_alive() {
    guarded(|| {
        let queue = Queue::<Vec<Sender<u8>>>::new().unwrap();
        let filler = Queue::new().unwrap().into_sender();
        while queue.put(vec![filler.clone()]).is_ok() {}
        // Room for the first of the parts in which so many handles are sent.
        queue.get().unwrap();
        let (sender, receiver) = Queue::new().unwrap().split();
        let refused = queue.put(vec![sender; 300]).unwrap_err();
        assert!(matches!(refused, PutError::TooManyHandles(_)), "{refused}");
        drop(refused);
        assert!(receiver.try_get().unwrap_err().is_empty(), "what was sent is still in the socket");
        while queue.try_get().is_ok() {}
        assert!(receiver.try_get().unwrap_err().is_disconnected());
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Loop(Queue<Loop>);

fn sockets() -> HashSet<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| {
        let target = std::fs::read_link(fd.ok()?.path()).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    });
    links.collect()
}

fn alive(inodes: &HashSet<String>) -> bool {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().any(|line| line.split_ascii_whitespace().any(|field| inodes.contains(field)))
}

#[test]
fn a_queue_put_into_itself_is_freed_when_its_last_handle_is_dropped() {
    guarded(|| {
        let before = sockets();
        let queue = Queue::new().unwrap();
        let of_queue: HashSet<String> = sockets().difference(&before).cloned().collect();
        assert_eq!(of_queue.len(), 2);
        queue.put(Loop(queue.clone())).unwrap();
        let Loop(twin) = queue.get().unwrap();
        twin.put(Loop(queue.clone())).unwrap();
        drop(queue);
        assert!(alive(&of_queue));
        drop(twin);
        mp_test::until("the kernel has freed the circle", || !alive(&of_queue));
    });
}
