//! An `Event` and a `Semaphore` in futures.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use async_io::block_on;
use help::{given, start, stay};
use mp_lock::{BoundedSemaphore, Event, Semaphore, SharedMemory};
use mp_test::{guarded, role, say};
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
    warm_up();
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
    warm_up();
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

/// The executor's thread and descriptors, once: they come with the first timer that has to be waited for, and on a busy machine a
/// short one is over before it is looked at.
fn warm_up() {
    let mut day = pin!(async_io::Timer::after(std::time::Duration::from_secs(86_400)));
    assert!(block_on(poll_fn(|context| Poll::Ready(day.as_mut().poll(context).is_pending()))));
    block_on(async_io::Timer::after(std::time::Duration::from_millis(1)));
}

#[test]
fn a_permit_given_back_or_left_by_the_dead_comes_to_a_future() {
    if role().is_some() {
        let semaphore: Semaphore = given();
        let _permit = semaphore.acquire();
        say("holding");
        stay();
    }
    warm_up();
    guarded(|| {
        let semaphore = Semaphore::new(1).unwrap();
        let test = "a_permit_given_back_or_left_by_the_dead_comes_to_a_future";
        let mut holder = start(test, "holder", &semaphore);
        holder.expect("holding");
        block_on(async {
            let mut waiting = pin!(semaphore.acquire_async());
            assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
            holder.kill();
            let permit = waiting.await;
            assert_eq!(semaphore.available_permits(), 0);
            let mut next = pin!(semaphore.acquire_async());
            assert!(poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await);
            // A permit is not bound to its thread.
            std::thread::spawn(move || drop(permit)).join().unwrap();
            next.await.release();
        });
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn a_dropped_future_takes_no_permit() {
    warm_up();
    guarded(|| {
        let semaphore = BoundedSemaphore::new(1).unwrap();
        let permit = semaphore.acquire();
        block_on(async {
            let mut dropped = pin!(semaphore.acquire_async());
            assert!(poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context).is_pending())).await);
        });
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn an_event_known_by_name_is_awaited_and_a_short_set_is_not_missed() {
    warm_up();
    guarded(|| {
        let name = format!("mp-test-{}-awaited", std::process::id());
        let memory = SharedMemory::create(&name, Event::SIZE).unwrap();
        let (event, other) = (Event::new_in(&memory, 0).unwrap(), Event::open_in(&memory, 0).unwrap());
        block_on(async {
            let mut waiting = pin!(event.wait_async());
            assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
            other.set();
            other.clear();
            waiting.await.unwrap();
        });
        assert!(!event.is_set());
    });
}
