//! The fork server: what its children have, what it costs to lose it, and who is whose child.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{ForkServer, Process, StartMethod};
use mp_test::guarded;
use rustix::process::{Pid, Signal, kill_process};

mp_process::enable_test_support!();

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn parent() -> u32 {
    rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned()
}

/// Runs `test` with processes that come from a fork server, which ends with it.
fn served(test: impl FnOnce(&mp_process::Builder)) {
    guarded(|| {
        test(&Process::builder().start_method(StartMethod::ForkServer));
        ForkServer::stop();
    });
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn smoke() {
    served(|builder| {
        assert_eq!(ForkServer::pid(), None);
        assert_eq!(builder.spawn(add, (2, 3)).unwrap().join().unwrap(), 5);
        assert_ne!(ForkServer::pid(), None);
        assert_eq!(builder.spawn(add, (20, 3)).unwrap().join().unwrap(), 23);
    });
}

#[test]
fn children_are_this_processs_own() {
    served(|builder| {
        assert_eq!(builder.spawn(parent, ()).unwrap().join().unwrap(), std::process::id());
    });
}

#[test]
fn a_killed_fork_server_costs_its_children_nothing() {
    served(|builder| {
        let (inner, outer) = gate();
        let before = builder.spawn(stand, (inner,)).unwrap();
        let pid = ForkServer::pid().unwrap();
        kill(pid);
        assert_eq!(builder.spawn(add, (2, 3)).unwrap().join().unwrap(), 5);
        assert_ne!(ForkServer::pid(), Some(pid));
        drop(outer);
        let pid = before.pid();
        assert_eq!(before.join().unwrap(), pid);
    });
}
