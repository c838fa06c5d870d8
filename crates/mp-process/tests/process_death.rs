//! A process is killed or stopped at each step of its start and of its end, and so is its parent.

#![expect(unsafe_code, reason = "blocking every signal, as a child that does not listen")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{exists, gate, is_by_exec, stand};
use mp_process::{JoinError, Process, SpawnError, active_children};
use mp_test::{Role, command, guarded, guarded_with_orphans, role, say, steps_or_say, until};
use std::time::{Duration, Instant};

mp_process::enable_test_support!();

fn double(n: u32) -> u32 {
    n * 2
}

const KILLED: i32 = 9;

#[test]
fn a_child_killed_at_any_step_is_an_error_and_leaves_nothing() {
    if !steps_or_say(mp_core::step::enabled(), "a_child_killed_at_any_step_is_an_error_and_leaves_nothing")
        || !is_by_exec("a_child_killed_at_any_step_is_an_error_and_leaves_nothing")
    {
        return;
    }
    guarded(|| {
        let coverage = ("process.entry", 1..=6);
        for step in coverage.1 {
            let builder = Process::builder().env("MP_STEP", format!("{}:{step}", coverage.0));
            let started = builder.spawn(double, (21,));
            match (step, started) {
                // It had no arguments yet, or has not answered.
                (1..=3, Err(SpawnError::Died(status))) => assert_eq!(status.signal(), Some(KILLED)),
                // The answer is out: the start is done.
                (4..=5, Ok(process)) => {
                    assert_eq!(process.wait().unwrap().signal(), Some(KILLED));
                    let error = process.join().unwrap_err();
                    assert!(matches!(error, JoinError::Signal { number: KILLED, .. }), "{step}: {error}");
                }
                // So is the result.
                (6, Ok(process)) => {
                    assert_eq!(process.wait().unwrap().signal(), Some(KILLED));
                    assert_eq!(process.join().unwrap(), 42);
                }
                (_, other) => panic!("{step}: {other:?}"),
            }
            assert!(active_children().is_empty());
        }
    });
}

#[test]
fn a_child_stopped_at_any_step_of_its_start_times_out() {
    if !steps_or_say(mp_core::step::enabled(), "a_child_stopped_at_any_step_of_its_start_times_out")
        || !is_by_exec("a_child_stopped_at_any_step_of_its_start_times_out")
    {
        return;
    }
    guarded(|| {
        // "process.entry:1" is before `init()` has looked at anything.
        for step in 1..=3 {
            let timeout = Duration::from_millis(100);
            let builder = Process::builder().handshake_timeout(timeout);
            let start = Instant::now();
            let stopped = builder.env("MP_STEP", format!("process.entry:{step}:stop"));
            let error = stopped.spawn(double, (21,)).unwrap_err();
            assert!(matches!(error, SpawnError::TimedOut), "{step}: {error}");
            assert!(error.to_string().contains("`init()`"), "{error}");
            assert!(start.elapsed() >= timeout);
        }
    });
}

#[test]
fn a_child_stopped_while_it_takes_large_arguments_times_out() {
    if !steps_or_say(mp_core::step::enabled(), "a_child_stopped_while_it_takes_large_arguments_times_out")
        || !is_by_exec("a_child_stopped_while_it_takes_large_arguments_times_out")
    {
        return;
    }
    guarded(|| {
        let builder = Process::builder().handshake_timeout(Duration::from_millis(100));
        let stopped = builder.env("MP_STEP", "process.entry:2:stop");
        // More than any buffer: the parent is in the middle of sending.
        let error = stopped.spawn(drop::<Vec<u8>>, (vec![1; 8 << 20],)).unwrap_err();
        assert!(matches!(error, SpawnError::TimedOut), "{error}");
    });
}

#[test]
fn a_child_killed_while_it_takes_large_arguments_is_an_error() {
    if !steps_or_say(mp_core::step::enabled(), "a_child_killed_while_it_takes_large_arguments_is_an_error")
        || !is_by_exec("a_child_killed_while_it_takes_large_arguments_is_an_error")
    {
        return;
    }
    guarded(|| {
        let builder = Process::builder().env("MP_STEP", "process.entry:2");
        let error = builder.spawn(drop::<Vec<u8>>, (vec![1; 8 << 20],)).unwrap_err();
        assert!(matches!(error, SpawnError::Died(status) if status.signal() == Some(KILLED)), "{error}");
    });
}

/// Spins with all signals blocked until it is killed.
fn spin() {
    block_all_signals();
    say(&format!("spins {}", std::process::id()));
    loop {
        std::hint::spin_loop();
    }
}

fn block_all_signals() {
    // SAFETY: a signal set is plain data; `sigfillset` writes all of it.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: an exclusive reference to a set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: a set that was just filled, and nothing to store the old one in.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
}

#[test]
fn a_parent_killed_at_any_step_of_a_start_leaves_no_process() {
    let test = "a_parent_killed_at_any_step_of_a_start_leaves_no_process";
    match role().as_deref() {
        Some("daemon") => return drop(Process::builder().daemon(true).spawn(spin, ())),
        Some(_) => return drop(Process::spawn(double, (1,))),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), test) || help::is_copied(test) {
        return;
    }
    guarded_with_orphans(|| {
        let coverage = ("process.spawn", 1..=4);
        for step in coverage.1 {
            for kind in ["daemon", "child"] {
                let mut parent = command(test, kind);
                parent.env("MP_STEP", format!("{}:{step}", coverage.0));
                let mut parent = Role::start(parent);
                // Reads until the last process that holds its output has ended.
                while parent.word().is_some() {}
                assert!(!parent.wait().success(), "{kind} {step}: it was killed");
            }
        }
    });
}

#[test]
fn daemons_that_spin_with_signals_blocked_die_with_their_parent() {
    let test = "daemons_that_spin_with_signals_blocked_die_with_their_parent";
    if role().is_some() {
        let daemon = Process::builder().daemon(true);
        let _daemons: Vec<_> = (0..3).map(|_| daemon.spawn(spin, ()).unwrap()).collect();
        let _ = mp_test::hear();
        return;
    }
    guarded_with_orphans(|| {
        let mut parent = Role::start(command(test, "parent"));
        let mut pids = Vec::new();
        for _ in 0..3 {
            let word = parent.word().unwrap();
            pids.push(word.strip_prefix("spins ").unwrap().parse::<u32>().unwrap());
        }
        assert!(pids.iter().all(|&pid| exists(pid)));
        parent.kill();
        // The end of file: none of them holds the output any more.
        assert_eq!(parent.word(), None);
    });
}

/// Says that it runs, waits for a word, and says whether its parent is there.
fn outlive() {
    say("runs");
    let _ = mp_test::hear();
    let parent = mp_process::parent_process().unwrap();
    until("the parent is gone", || !parent.is_alive());
    say("outlived");
}

#[test]
fn a_child_that_is_no_daemon_outlives_its_killed_parent() {
    let test = "a_child_that_is_no_daemon_outlives_its_killed_parent";
    if role().is_some() {
        let process = Process::builder().stdin(mp_process::Stdio::Inherit).spawn(outlive, ()).unwrap();
        let _ = process.wait();
        return;
    }
    guarded_with_orphans(|| {
        let mut parent = Role::start(command(test, "parent"));
        parent.expect("runs");
        parent.kill();
        parent.expect("outlived");
    });
}

#[test]
fn a_killed_child_among_many_ends_only_itself() {
    guarded(|| {
        let (inner, outer) = gate();
        let victim = Process::spawn(stand, (inner,)).unwrap();
        let (inner, other) = gate();
        let bystander = Process::spawn(stand, (inner,)).unwrap();
        victim.kill().unwrap();
        assert!(matches!(victim.join(), Err(JoinError::Signal { number: KILLED, .. })));
        assert!(bystander.is_alive());
        drop((outer, other));
        assert!(bystander.join().is_ok());
    });
}
