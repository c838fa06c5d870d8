//! An `Event` that is polled, alone and beside others.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, killed_at, start, start_with};
use mp_lock::{Event, Readable, Waitable, wait};
use mp_test::{guarded, role, say};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

fn is_readable(event: &Event) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(event, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[test]
fn smoke() {
    guarded(|| {
        let event = Event::new().unwrap();
        event.set();
        assert!(format!("{event:?}").contains("polled: false"));
        // It was set before anybody polled it.
        assert!(is_readable(&event) && event.is_set() && event.is_ready().unwrap());
        event.clear();
        assert!(!is_readable(&event) && !event.is_set() && !event.wait_timeout(Duration::ZERO));
        for _ in 0..3 {
            event.set();
        }
        assert!(is_readable(&event) && event.wait_timeout(Duration::ZERO));
        event.clear();
        assert!(!is_readable(&event), "cleared once, however often it was set");
        assert_eq!(event.as_raw_fd(), event.as_fd().as_raw_fd());
    });
}

#[test]
fn it_is_waited_for_beside_others() {
    guarded(|| {
        let (one, two) = (Event::new().unwrap(), Event::new().unwrap());
        let (pipe, mut end) = std::io::pipe().unwrap();
        let pipe = Readable(pipe);
        let start = Instant::now();
        assert_eq!(wait(&[&one, &two, &pipe], Some(Duration::from_millis(20))).unwrap(), []);
        assert!(start.elapsed() >= Duration::from_millis(20));
        std::thread::scope(|scope| {
            scope.spawn(|| two.set());
            assert_eq!(wait(&[&one, &two, &pipe], None).unwrap(), [1]);
        });
        end.write_all(b"x").unwrap();
        assert_eq!(wait(&[&one, &two, &pipe], None).unwrap(), [1, 2]);
        two.clear();
        assert_eq!(wait(&[&one, &two, &pipe], None).unwrap(), [2]);
    });
}

#[test]
fn polled_by_one_it_is_polled_by_all_and_both_ways_of_waiting_agree() {
    if role().is_some() {
        let (there, back): (Event, Event) = given();
        for _ in 0..200 {
            // By its descriptor here, by the word there.
            assert_eq!(wait(&[&there], None).unwrap(), [0]);
            there.clear();
            back.set();
        }
        return;
    }
    guarded(|| {
        let both = (Event::new().unwrap(), Event::new().unwrap());
        let test = "polled_by_one_it_is_polled_by_all_and_both_ways_of_waiting_agree";
        let mut other = start(test, "other", &both);
        for _ in 0..200 {
            both.0.set();
            both.1.wait();
            both.1.clear();
        }
        assert!(other.wait().success());
    });
}

/// Sets and clears race in several threads while another one makes it pollable; in the end descriptor and flag agree.
#[test]
fn flag_and_descriptor_agree_after_every_race() {
    guarded(|| {
        for round in 0..300 {
            let event = Event::new().unwrap();
            let sets_last = round % 2 == 0;
            std::thread::scope(|scope| {
                scope.spawn(|| (0..20).for_each(|_| event.set()));
                scope.spawn(|| (0..20).for_each(|_| event.clear()));
                scope.spawn(|| event.wait_fd().map(drop).unwrap());
            });
            assert_eq!(is_readable(&event), event.is_set());
            if sets_last {
                event.set()
            } else {
                event.clear()
            }
            assert_eq!((is_readable(&event), event.is_set()), (sets_last, sets_last));
        }
    });
}

#[test]
fn a_set_that_is_cleared_at_once_is_not_missed_by_who_waits_on_a_polled_one() {
    guarded(|| {
        let event = Event::new().unwrap();
        event.wait_fd().map(drop).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| event.wait());
            while !waiter.is_finished() {
                event.set();
                event.clear();
                std::thread::yield_now();
            }
        });
        assert!(!event.is_set());
    });
}

/// Kills a setter at `event.set:1..=4` and a clearer at `event.clear:1..=2` of a polled event: descriptor and flag agree, and a
/// waiter on either is not missed.
#[test]
fn a_death_at_any_step_leaves_flag_and_descriptor_the_same() {
    if role().is_some() {
        let (event, sets): (Event, bool) = given();
        if sets {
            event.set()
        } else {
            event.clear()
        }
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_leaves_flag_and_descriptor_the_same";
        let polled = |sets: bool| {
            let event = Event::new().unwrap();
            event.wait_fd().map(drop).unwrap();
            if !sets {
                event.set();
            }
            (event, sets)
        };
        // The ring is step 4 and comes first.
        killed_at(
            test,
            &["event.set:1..=4"],
            || polled(true),
            |step, (event, _)| {
                assert!(event.is_set() && is_readable(&event), "{step}");
                event.wait();
                event.clear();
                assert!(!event.is_set() && !is_readable(&event));
            },
        );
        killed_at(
            test,
            &["event.clear:1..=2"],
            || polled(false),
            |step, (event, _)| {
                assert!(!event.is_set() && !is_readable(&event), "{step}");
                event.set();
                event.wait();
            },
        );
    });
}

/// Kills at `event.poll:1..=2` who makes it pollable.
#[test]
fn a_death_while_it_becomes_pollable_is_made_good_by_the_next() {
    if role().is_some() {
        given::<Event>().wait_fd().map(drop).unwrap();
        say("survived");
        return;
    }
    let test = "a_death_while_it_becomes_pollable_is_made_good_by_the_next";
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded(|| {
        for (step, was_set, then_set) in [
            ("event.poll:1", true, true),
            ("event.poll:1", true, false),
            ("event.poll:1", false, true),
            ("event.poll:2", true, true),
            ("event.poll:2", false, false),
        ] {
            let event = Event::new().unwrap();
            if was_set {
                event.set();
            }
            let mut dying = start_with(test, "dying", &event, Some(step));
            assert_eq!(dying.word(), None, "{step} was not reached");
            dying.wait();
            if then_set {
                event.set()
            } else {
                event.clear()
            }
            assert_eq!((event.is_set(), is_readable(&event)), (then_set, then_set), "{step}");
        }
    });
}

#[test]
fn another_descriptor_in_its_place_is_refused() {
    guarded(|| {
        let event = Event::new().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut scratch = Vec::new();
        let message = mp_core::encode(&event, &mut scratch).unwrap();
        let mut fds: Vec<_> =
            message.handles.shared().iter().map(|fd| fd.as_fd().try_clone_to_owned().unwrap()).collect();
        *fds.last_mut().unwrap() = file.into();
        assert!(mp_core::decode::<Event>(message.encoding, message.bytes.into(), fds).is_err());
    });
}
