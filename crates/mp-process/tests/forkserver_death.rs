//! The fork server, its children, its spares and its program are killed or stopped at every step.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, served, signal, spares, stand};
use mp_core::step::{Action, arm};
use mp_process::{ForkServer, JoinError, Process, SpawnError, StartMethod, active_children};
use mp_test::{Role, command, guarded_with_orphans, role, say, steps_or_say, until};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;

mp_process::enable_test_support!();

const KILLED: i32 = 9;

fn double(n: u32) -> u32 {
    n * 2
}

/// A file that is there until a fork server of `program` has armed its step.
fn armed(program: u32) -> PathBuf {
    std::env::temp_dir().join(format!("mp-armed-{program}"))
}

/// Arms a step in the fork server, which its children inherit; only in the first one that comes to it.
fn arm_once<const CHILD: bool, const STEP: u32>() {
    let path = armed(rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned());
    if CHILD || std::fs::remove_file(path).is_ok() {
        arm(if CHILD { "process.entry" } else { "process.zygote" }, STEP, Action::Kill, 0);
    }
}

#[test]
fn a_fork_server_killed_at_any_step_is_replaced_and_loses_no_start() {
    let test = "a_fork_server_killed_at_any_step_is_replaced_and_loses_no_start";
    if !steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    served(|builder| {
        let coverage = ("process.zygote", 1..=3);
        for step in coverage.1 {
            std::fs::write(armed(std::process::id()), coverage.0).unwrap();
            match step {
                1 => ForkServer::warm_up(arm_once::<false, 1>),
                2 => ForkServer::warm_up(arm_once::<false, 2>),
                _ => ForkServer::warm_up(arm_once::<false, 3>),
            }
            ForkServer::start().unwrap();
            let first = ForkServer::pid();
            assert_eq!(builder.spawn(double, (21,)).unwrap().join().unwrap(), 42, "{step}");
            until("the first fork server is gone", || ForkServer::pid() != first);
            assert_eq!(builder.spawn(double, (4,)).unwrap().join().unwrap(), 8, "{step}");
            assert!(active_children().is_empty());
        }
    });
}

#[test]
fn a_child_of_the_fork_server_killed_at_any_step_is_an_error_and_leaves_nothing() {
    let test = "a_child_of_the_fork_server_killed_at_any_step_is_an_error_and_leaves_nothing";
    if !steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    served(|builder| {
        let coverage = ("process.entry", 1..=6);
        for step in coverage.1 {
            match step {
                1 => ForkServer::warm_up(arm_once::<true, 1>),
                2 => ForkServer::warm_up(arm_once::<true, 2>),
                3 => ForkServer::warm_up(arm_once::<true, 3>),
                4 => ForkServer::warm_up(arm_once::<true, 4>),
                5 => ForkServer::warm_up(arm_once::<true, 5>),
                _ => ForkServer::warm_up(arm_once::<true, 6>),
            }
            match (step, builder.spawn(double, (21,))) {
                (1..=3, Err(SpawnError::Died(status))) => assert_eq!(status.signal(), Some(KILLED)),
                (4..=5, Ok(process)) => {
                    let error = process.join().unwrap_err();
                    assert!(matches!(error, JoinError::Signal { number: KILLED, .. }), "{step}: {error}");
                }
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
fn a_program_killed_at_any_step_of_a_start_leaves_no_process() {
    let test = "a_program_killed_at_any_step_of_a_start_leaves_no_process";
    let builder = Process::builder().start_method(StartMethod::ForkServer);
    match role().as_deref() {
        Some("daemon") => return drop(builder.daemon(true).spawn(stand, (gate().0,))),
        Some("spares") => {
            ForkServer::spares(3).unwrap();
            return drop(builder.spawn(double, (1,)));
        }
        Some(_) => return drop(builder.spawn(double, (1,))),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded_with_orphans(|| {
        let coverage = ("process.forkserver", 1..=2);
        let steps = coverage.1.map(|step| format!("{}:{step}", coverage.0));
        for step in steps.chain(["process.spawn:3:+1".to_owned()]) {
            for kind in ["daemon", "child", "spares"] {
                let mut parent = command(test, kind);
                parent.env("MP_STEP", &step);
                let mut parent = Role::start(parent);
                // Reads until the last process that holds its output has ended.
                while parent.word().is_some() {}
                assert!(!parent.wait().success(), "{kind} {step}: it was killed");
            }
        }
    });
}

#[test]
fn a_killed_fork_server_costs_its_children_nothing() {
    served(|builder| {
        let (inner, outer) = gate();
        let before = builder.spawn(stand, (inner,)).unwrap();
        let pid = ForkServer::pid().unwrap();
        signal(pid, Signal::KILL);
        assert_eq!(builder.spawn(double, (2,)).unwrap().join().unwrap(), 4);
        assert_ne!(ForkServer::pid(), Some(pid));
        drop(outer);
        let pid = before.pid();
        assert_eq!(before.join().unwrap(), pid);
        let (inner, _outer) = gate();
        let process = builder.spawn(stand, (inner,)).unwrap();
        signal(ForkServer::pid().unwrap(), Signal::KILL);
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(KILLED));
    });
}

#[test]
fn a_stopped_fork_server_times_out_and_is_replaced() {
    served(|builder| {
        builder.spawn(double, (2,)).unwrap().join().unwrap();
        let pid = ForkServer::pid().unwrap();
        signal(pid, Signal::STOP);
        let impatient = builder.clone().handshake_timeout(Duration::from_millis(50));
        let error = impatient.spawn(double, (2,)).unwrap_err();
        assert!(matches!(error, SpawnError::TimedOut), "{error}");
        assert_eq!(builder.spawn(double, (2,)).unwrap().join().unwrap(), 4);
        assert_ne!(ForkServer::pid(), Some(pid));
    });
}

#[test]
fn killed_and_stopped_spares_are_passed_over_and_reaped() {
    served(|builder| {
        ForkServer::spares(3).unwrap();
        until("they are forked", || spares().len() == 3);
        for pid in spares() {
            signal(pid, Signal::KILL);
        }
        assert_eq!(builder.spawn(double, (2,)).unwrap().join().unwrap(), 4);
        until("there are as many again", || spares().len() == 3);
        for pid in spares() {
            signal(pid, Signal::STOP);
        }
        let impatient = builder.clone().handshake_timeout(Duration::from_millis(50));
        assert!(matches!(impatient.spawn(double, (2,)), Err(SpawnError::TimedOut)));
    });
}

#[test]
fn spares_end_with_their_program() {
    let test = "spares_end_with_their_program";
    if role().is_some() {
        ForkServer::spares(3).unwrap();
        until("they are forked", || spares().len() == 3);
        say("ready");
        let _ = mp_test::hear();
        return;
    }
    guarded_with_orphans(|| {
        let mut program = Role::start(command(test, "program"));
        program.expect("ready");
        program.kill();
        assert_eq!(program.word(), None);
    });
}
