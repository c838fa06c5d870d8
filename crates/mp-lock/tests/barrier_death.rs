//! A party of a `Barrier` is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, killed_at, start, stay};
use mp_lock::{Barrier, BarrierError};
use mp_test::{guarded, role, say};

#[test]
fn a_party_killed_after_arriving_breaks_it() {
    if role().is_some() {
        let barrier: Barrier = given();
        say("arriving");
        let _ = barrier.wait();
        stay();
    }
    guarded(|| {
        let barrier = Barrier::new(3).unwrap();
        let mut party = start("a_party_killed_after_arriving_breaks_it", "party", &barrier);
        party.expect("arriving");
        mp_test::until("it has arrived", || barrier.waiting() == 1);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            mp_test::until("two have arrived", || barrier.waiting() == 2);
            party.kill();
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
        assert!(barrier.is_broken());
        barrier.reset();
        assert!(!barrier.is_broken());
    });
}

#[test]
fn many_killed_at_once_break_it_too() {
    if role().is_some() {
        let _ = given::<Barrier>().wait();
        stay();
    }
    guarded(|| {
        let barrier = Barrier::new(6).unwrap();
        let mut parties: Vec<_> =
            (0..4).map(|_| start("many_killed_at_once_break_it_too", "party", &barrier)).collect();
        mp_test::until("all have arrived", || barrier.waiting() == 4);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            mp_test::until("the last has arrived", || barrier.waiting() == 5);
            for party in &mut parties {
                party.kill();
            }
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
    });
}

#[test]
fn a_party_killed_in_its_action_breaks_it() {
    if role().is_some() {
        let barrier: Barrier = given();
        let _ = barrier.wait_with(|| {
            say("acting");
            stay();
        });
        return;
    }
    guarded(|| {
        let barrier = Barrier::new(2).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| barrier.wait());
            mp_test::until("one waits", || barrier.waiting() == 1);
            let mut actor = start("a_party_killed_in_its_action_breaks_it", "actor", &barrier);
            actor.expect("acting");
            actor.kill();
            assert_eq!(waiter.join().unwrap(), Err(BarrierError::Broken));
        });
    });
}

#[test]
fn a_registered_party_that_dies_before_it_comes_breaks_it() {
    if role().is_some() {
        let _party = given::<Barrier>().join_party().unwrap();
        say("registered");
        stay();
    }
    guarded(|| {
        let barrier = Barrier::new(2).unwrap();
        let test = "a_registered_party_that_dies_before_it_comes_breaks_it";
        let mut party = start(test, "party", &barrier);
        party.expect("registered");
        party.kill();
        assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        barrier.reset();
        let _all = (barrier.join_party().unwrap(), barrier.join_party().unwrap());
    });
}

/// Kills the last party to come, at `barrier.arrive:1..=4` and `barrier.turn:1..=2`: who waits passes or finds it broken,
/// and after a reset it serves again.
#[test]
fn a_death_at_any_step_of_the_last_party_strands_nobody() {
    if role().is_some() {
        let barrier: Barrier = given();
        mp_test::until("the other one waits", || barrier.waiting() == 1);
        let _ = barrier.wait();
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_of_the_last_party_strands_nobody";
        let steps = ["barrier.arrive:1..=4", "barrier.turn:1..=2"];
        let waiter = std::cell::RefCell::new(None);
        let waited_for = || {
            let barrier = Barrier::new(2).unwrap();
            let other = barrier.clone();
            *waiter.borrow_mut() = Some(std::thread::spawn(move || other.wait()));
            barrier
        };
        killed_at(test, &steps, waited_for, |step, barrier| {
            if matches!(step, "barrier.arrive:1" | "barrier.arrive:2") {
                assert_eq!(barrier.waiting(), 1, "it had not arrived at {step}");
                barrier.abort();
            }
            let outcome = waiter.borrow_mut().take().unwrap().join().unwrap();
            let passed = matches!(step, "barrier.arrive:4" | "barrier.turn:1" | "barrier.turn:2");
            assert_eq!(outcome.is_ok(), passed, "{step}: {outcome:?}");
            barrier.reset();
            std::thread::scope(|scope| {
                scope.spawn(|| barrier.wait().unwrap());
                barrier.wait().unwrap();
            });
        });
    });
}

/// Kills at `barrier.look:1` whoever has claimed the look after all: the others hear of it, and of who had died before.
#[test]
fn a_death_of_the_one_who_looks_after_all_is_noticed() {
    match role().as_deref() {
        Some("victim") => {
            let _party = given::<Barrier>().join_party().unwrap();
            say("registered");
            stay();
        }
        Some(_) => {
            let _ = given::<Barrier>().wait();
            say("survived");
            return;
        }
        None => {}
    }
    let test = "a_death_of_the_one_who_looks_after_all_is_noticed";
    guarded(|| {
        let registered = || {
            let barrier = Barrier::new(4).unwrap();
            let mut victim = start(test, "victim", &barrier);
            victim.expect("registered");
            victim.kill();
            barrier
        };
        killed_at(test, &["barrier.look:1"], registered, |_, barrier| {
            assert_eq!(barrier.waiting(), 1, "it has arrived, and died");
            assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        });
    });
}
