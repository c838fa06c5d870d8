//! A second process that takes what it is given.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses some of it")]

use mp_lock::{give, take};
use mp_test::{Role, command, hear, say};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Starts this binary again for `test` in `role`, with `value` to be taken by [`given`].
pub(crate) fn start<T: Serialize + 'static>(test: &str, role: &str, value: &T) -> Role {
    start_with(test, role, value, None)
}

/// The same, dying at a step such as `lock.acquire:1`.
pub(crate) fn start_with<T: Serialize + 'static>(
    test: &str,
    role: &str,
    value: &T,
    step: Option<&str>,
) -> Role {
    let mut command = command(test, role);
    command.envs(step.map(|step| ("MP_STEP", step)));
    give(&mut command, "value", value).unwrap();
    Role::start(command)
}

/// In a role: what the test gave.
pub(crate) fn given<T: DeserializeOwned + 'static>() -> T {
    take("value").unwrap()
}

/// In a role: stays until it is killed.
pub(crate) fn stay() -> ! {
    let _ = hear();
    // The test has closed its end without killing: it failed there.
    std::process::abort();
}

/// In a role: tells which thread is about to wait.
pub(crate) fn say_thread() {
    say(&rustix::thread::gettid().as_raw_nonzero().to_string());
}

/// Waits until the thread that the role tells of sleeps in a futex: telling comes before the sleep.
pub(crate) fn asleep(role: &mut Role) {
    let thread = role.word().unwrap();
    let file = format!("/proc/{}/task/{thread}/syscall", role.pid());
    let futex = format!("{} ", libc::SYS_futex);
    mp_test::until("the waiter sleeps", || {
        std::fs::read_to_string(&file).is_ok_and(|call| call.starts_with(&futex))
    });
}

/// Runs `check` for each step at which a fresh process in the role `dying` was killed, with `value(step)`.
pub(crate) fn killed_at<T: Serialize + 'static>(
    test: &str,
    steps: &[&str],
    mut value: impl FnMut() -> T,
    mut check: impl FnMut(&str, T),
) {
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    for steps in steps {
        let (protocol, numbers) = steps.split_once(':').unwrap();
        let (first, last) = numbers.split_once("..=").unwrap_or((numbers, numbers));
        for number in first.parse::<u32>().unwrap()..=last.parse().unwrap() {
            let (step, value) = (format!("{protocol}:{number}"), value());
            let mut dying = start_with(test, "dying", &value, Some(&step));
            assert_eq!(dying.word(), None, "{step} was not reached");
            dying.wait();
            check(&step, value);
        }
    }
}
