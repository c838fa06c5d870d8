//! A waiter or setter of an `Event` is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{asleep, given, killed_at, say_thread, start, stay};
use mp_lock::Event;
use mp_test::{guarded, role, say};

#[test]
fn killed_waiters_do_not_keep_set_from_returning() {
    if role().is_some() {
        let event: Event = given();
        say_thread();
        event.wait();
        say("let go");
        stay();
    }
    guarded(|| {
        let test = "killed_waiters_do_not_keep_set_from_returning";
        let event = Event::new().unwrap();
        for _ in 0..3 {
            let mut waiter = start(test, "waiter", &event);
            asleep(&mut waiter);
            waiter.kill();
        }
        let mut living = start(test, "waiter", &event);
        asleep(&mut living);
        for _ in 0..5 {
            event.set();
            event.clear();
        }
        living.expect("let go");
        living.kill();
    });
}

/// Kills at `event.set:1..=3`: before the store, before the wake, after it.
#[test]
fn a_setter_killed_at_any_step_has_set_it_or_not() {
    if role().is_some() {
        given::<Event>().set();
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_setter_killed_at_any_step_has_set_it_or_not";
        killed_at(
            test,
            &["event.set:1..=3"],
            || Event::new().unwrap(),
            |step, event| {
                assert_eq!(event.is_set(), step != "event.set:1", "{step}");
            },
        );
    });
}

/// Killed between the store and the wake, with a waiter asleep already.
#[test]
fn a_waiter_sees_what_a_dead_setter_did_not_tell() {
    match role().as_deref() {
        Some("waiter") => {
            let event: Event = given();
            say_thread();
            event.wait();
            say("let go");
            return;
        }
        Some(_) => return given::<Event>().set(),
        None => {}
    }
    let test = "a_waiter_sees_what_a_dead_setter_did_not_tell";
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded(|| {
        let event = Event::new().unwrap();
        let mut waiter = start(test, "waiter", &event);
        asleep(&mut waiter);
        let mut setter = help::start_with(test, "setter", &event, Some("event.set:2"));
        setter.wait();
        waiter.expect("let go");
        assert!(waiter.wait().success());
    });
}
