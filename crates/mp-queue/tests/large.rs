//! Memory of large values that keep coming is kept for the next one, and goes back however they end.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{memory, until_given_back};
use mp_queue::{JoinableQueue, OnDeath, Queue, give, take};
use mp_test::{Role, command, guarded, role};
use std::cell::RefCell;
use std::os::fd::AsFd;
use std::thread;

const LARGE: usize = 8 << 20;
const MIB: u64 = 1 << 20;

/// So many that memory is kept.
fn many(queue: &Queue<Vec<u8>>, get: impl Fn() -> Vec<u8>) {
    for n in 0..8 {
        queue.put(vec![n; LARGE]).unwrap();
        assert!(get() == vec![n; LARGE]);
    }
}

#[test]
fn who_only_looks_gives_back_with_the_first_look_that_finds_nothing() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        many(&queue, || queue.try_get().unwrap());
        assert!(memory() >= LARGE as u64, "kept for the next one");
        assert!(queue.try_get().unwrap_err().is_empty());
        assert!(memory() < MIB, "{}", memory());
    });
}

#[test]
fn who_polls_keeps_none() {
    guarded(|| {
        let queue: Queue<Vec<u8>> = Queue::new().unwrap();
        let _ = queue.as_fd();
        many(&queue, || queue.try_get().unwrap());
        assert!(memory() < MIB, "{}", memory());
    });
}

#[test]
fn who_lets_go_of_the_queue_gives_back() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        // Another opening of the same memory, as another process has it.
        let other: Queue<Vec<u8>> = {
            let carrier = Queue::new().unwrap();
            carrier.put(queue.clone()).unwrap();
            carrier.get().unwrap()
        };
        many(&queue, || other.get().unwrap());
        assert!(memory() >= LARGE as u64, "kept for the next one");
        drop(other);
        assert!(memory() < MIB, "{}", memory());
    });
}

#[test]
fn one_after_a_pause_is_one_alone_again() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        many(&queue, || queue.get().unwrap());
        until_given_back(&queue, MIB);
        queue.put(vec![1; LARGE]).unwrap();
        assert_eq!(queue.get().unwrap().len(), LARGE);
        assert!(memory() < MIB, "{}", memory());
    });
}

#[test]
fn short_values_behind_a_large_one_do_not_count() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put(vec![1; LARGE]).unwrap();
        (0..6).for_each(|_| queue.put_bytes(b"small").unwrap());
        assert_eq!(queue.get().unwrap().len(), LARGE);
        (0..6).for_each(|_| assert_eq!(queue.get().unwrap(), b"small"));
        assert!(memory() < MIB, "{}", memory());
    });
}

/// The buffer in which values are encoded is gone when the destructor runs.
#[test]
fn a_put_from_the_destructor_of_a_thread_local_goes_through() {
    struct Last(Queue<(u32, String)>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.put((2, "last words".to_owned())).unwrap();
        }
    }
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    guarded(|| {
        let queue = Queue::new().unwrap();
        let own = queue.clone();
        let speaks = move || {
            // In this order, the buffer's destructor runs first.
            LAST.set(Some(Last(own.clone())));
            own.put((1, "first".to_owned())).unwrap();
        };
        thread::spawn(speaks).join().unwrap();
        assert_eq!(queue.get().unwrap().0, 1);
        assert_eq!(queue.get().unwrap(), (2, "last words".to_owned()));
    });
}

#[test]
fn bytes_that_a_killed_consumer_got_into_a_buffer_come_again_whole() {
    const TEST: &str = "bytes_that_a_killed_consumer_got_into_a_buffer_come_again_whole";
    if role().is_some() {
        let queue: JoinableQueue<Vec<u8>> = take("end").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(queue.get_bytes_into(&mut buffer).unwrap(), 64);
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    guarded(|| {
        let queue = JoinableQueue::<Vec<u8>>::with_policy(None, OnDeath::Redeliver).unwrap();
        let bytes: Vec<u8> = (0..64).collect();
        queue.put_bytes(&bytes).unwrap();
        let mut child = command(TEST, "consumer");
        give(&mut child, "end", &queue).unwrap();
        Role::start(child).wait();
        assert_eq!(queue.get().unwrap(), bytes);
        queue.task_done().unwrap();
    });
}
