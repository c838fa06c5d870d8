//! `SimpleQueue`: what it has, between processes too.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{SimpleQueue, Waitable, give, take, wait};
use mp_test::{Role, command, guarded, role};
use std::time::Duration;

#[test]
fn smoke() {
    if role().is_some() {
        let (there, back): (SimpleQueue<u32>, SimpleQueue<u32>) = take("queues").unwrap();
        return back.put(there.get().unwrap() + 1).unwrap();
    }
    guarded(|| {
        let (there, back) = (SimpleQueue::<u32>::new().unwrap(), SimpleQueue::<u32>::new().unwrap());
        assert!(there.is_empty());
        there.put(41).unwrap();
        assert!(!there.is_empty() && there.is_ready().unwrap());
        let mut child = command("smoke", "adder");
        give(&mut child, "queues", &(there.clone(), back.clone())).unwrap();
        let mut child = Role::start(child);
        assert_eq!(wait(&[&back], None).unwrap(), [0]);
        assert_eq!(back.get().unwrap(), 42);
        assert!(there.is_empty() && child.wait().success());
    });
}

#[test]
fn closed_twice_is_closed_and_drains() {
    guarded(|| {
        let queue = SimpleQueue::new().unwrap();
        queue.put(1).unwrap();
        queue.close().unwrap();
        queue.close().unwrap();
        assert!(queue.put(2).unwrap_err().is_closed());
        assert!(!queue.is_empty());
        assert_eq!(queue.get().unwrap(), 1);
        assert!(queue.get().unwrap_err().is_closed());
        // Empty has one meaning, closed or not.
        assert!(queue.is_empty());
        let queue = queue.into_queue();
        assert!(queue.get_timeout(Duration::ZERO).unwrap_err().to_string().contains("closed"));
    });
}
