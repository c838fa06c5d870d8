//! An `Event` in futures.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use async_io::block_on;
use help::{given, start};
use mp_lock::Event;
use mp_test::{guarded, role};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

#[test]
fn another_process_sets_what_a_future_waits_for() {
    if role().is_some() {
        let (there, back): (Event, Event) = given();
        block_on(there.wait_async()).unwrap();
        back.set();
        return;
    }
    // The executor's thread and descriptors, once.
    block_on(async_io::Timer::after(std::time::Duration::from_millis(1)));
    guarded(|| {
        let both = (Event::new().unwrap(), Event::new().unwrap());
        let mut other = start("another_process_sets_what_a_future_waits_for", "other", &both);
        both.0.set();
        block_on(both.1.wait_async()).unwrap();
        block_on(both.1.wait_async()).unwrap();
        assert!(other.wait().success());
    });
}

#[test]
fn a_dropped_future_takes_nothing_and_a_short_set_is_not_missed() {
    block_on(async_io::Timer::after(std::time::Duration::from_millis(1)));
    guarded(|| {
        let event = Event::new().unwrap();
        block_on(async {
            {
                let mut dropped = pin!(event.wait_async());
                assert!(poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context).is_pending())).await);
            }
            let mut waiting = pin!(event.wait_async());
            assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
            event.set();
            event.clear();
            waiting.await.unwrap();
        });
        assert!(!event.is_set());
    });
}
