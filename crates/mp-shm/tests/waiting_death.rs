//! Processes killed at each step of waiting and changing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_shm::{Value, give, take};
use mp_test::{Role, command, guarded, steps_or_say};
use std::os::unix::process::ExitStatusExt;
use std::thread;

/// Killed between its change and its wake, it has changed the value, and who waits sees that within a slice.
#[test]
fn the_change_of_one_who_is_killed_before_the_wake_is_seen() {
    const ME: &str = "the_change_of_one_who_is_killed_before_the_wake_is_seen";
    if mp_test::role().is_some() {
        let (value, waits): (Value<u32>, Value<bool>) = take("both").unwrap();
        waits.wait_until(|waits| waits);
        value.set(1);
        return;
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        for step in ["shm.change:1", "shm.change:2", "shm.change:3"] {
            let both = (Value::new(0_u32).unwrap(), Value::new(false).unwrap());
            let mut command = command(ME, "changer");
            give(&mut command, "both", &both).unwrap();
            command.env("MP_STEP", step);
            thread::scope(|scope| {
                let mut changer = Role::start(command);
                let waiter = scope.spawn(|| both.0.wait_changed(0));
                asleep(&both.0);
                both.1.set(true);
                assert_eq!(changer.wait().signal(), Some(9), "{step}");
                assert_eq!(waiter.join().unwrap(), 1, "{step}");
            });
        }
    });
}

/// Waits until somebody has armed the bell of the value.
fn asleep(value: &Value<u32>) {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(value.as_fd().try_clone_to_owned().expect("a descriptor"));
    mp_test::until("the bell is armed", || {
        let mut bell = [0; 4];
        file.read_exact_at(&mut bell, 40).expect("a header");
        u32::from_ne_bytes(bell) & 1 == 1
    });
}

/// Killed at any step of waiting, it holds up neither the changer nor others who wait.
#[test]
fn a_waiter_killed_at_any_step_holds_nobody_up() {
    const ME: &str = "a_waiter_killed_at_any_step_holds_nobody_up";
    if mp_test::role().is_some() {
        let value: Value<u32> = take("value").unwrap();
        value.wait_changed(0);
        return;
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        for step in ["shm.wait:1", "shm.wait:2"] {
            assert!(is_killed_while_waiting(ME, step), "{step}");
        }
        // One who has armed the bell and looks after the change has no need to sleep, and gets no further than that.
        while !is_killed_while_waiting(ME, "shm.wait:3") {}
    });
}

/// Whether a waiter was killed at `step`; another one beside it gets the change.
fn is_killed_while_waiting(test: &str, step: &str) -> bool {
    let value = Value::new(0_u32).unwrap();
    let mut command = command(test, "waiter");
    give(&mut command, "value", &value).unwrap();
    command.env("MP_STEP", step);
    let mut waiter = Role::start(command);
    asleep(&value);
    thread::scope(|scope| {
        let other = scope.spawn(|| value.wait_changed(0));
        if step != "shm.wait:3" {
            assert_eq!(waiter.wait().signal(), Some(9), "{step}");
        }
        value.set(1);
        assert_eq!(other.join().unwrap(), 1, "{step}");
    });
    let status = waiter.wait();
    assert!(status.success() || status.signal() == Some(9), "{step}: {status}");
    !status.success()
}
