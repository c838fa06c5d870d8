//! What several of the tests need.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests; each uses some of them"
)]

use mp_queue::{Passed, Queue, give};
use mp_test::{Role, command, until};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

/// A kernel pipe whose writing end can be passed on.
pub(crate) fn tube() -> (io::PipeReader, Passed<File>) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, Passed(File::from(OwnedFd::from(writer))))
}

pub(crate) fn all(mut reader: io::PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// What the queues of this process take of the machine's memory.
pub(crate) fn memory() -> u64 {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| Some(fd.ok()?.path()));
    let queues = fds.filter(|fd| {
        std::fs::read_link(fd).is_ok_and(|target| target.to_string_lossy().contains("mp-growable"))
    });
    queues.map(|fd| std::fs::metadata(fd).map_or(0, |meta| meta.blocks() * 512)).sum()
}

/// Waits in vain until an idle consumer has given memory back, down to `most` bytes.
pub(crate) fn until_given_back(queue: &Queue<Vec<u8>>, most: u64) {
    until("the memory is back", || {
        assert!(queue.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
        memory() < most
    });
}

/// How many kills a stress test goes on to, whatever time that takes.
pub(crate) fn wanted_kills() -> usize {
    std::env::var("MP_STRESS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What producers put here: of the same length each, and telling of any torn byte.
pub(crate) fn message(n: u8) -> Vec<u8> {
    vec![n; 1000]
}

/// The command for `role` of `test`, which takes `end`.
pub(crate) fn child<E: Serialize + 'static>(test: &str, role: &str, end: &E) -> Command {
    let mut child = command(test, role);
    give(&mut child, "end", end).unwrap();
    child
}

/// Starts a child that dies at `step`, and waits until it has.
pub(crate) fn dies_at<E: Serialize + 'static>(step: &str, test: &str, role: &str, end: &E) {
    let mut command = child(test, role, end);
    command.env("MP_STEP", step);
    let status = Role::start(command).wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{step}: not reached");
}

/// Starts a child that dies at `step` if it comes there, and waits until it is gone.
pub(crate) fn may_die_at<E: Serialize + 'static>(step: &str, test: &str, role: &str, end: &E) {
    let mut command = child(test, role, end);
    command.env("MP_STEP", step);
    let status = Role::start(command).wait();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert!(status.success() || signal == Some(9), "{step}: {status}");
}

/// `protocol:step` for each.
pub(crate) fn all_steps(protocols: &[(&str, RangeInclusive<u32>)]) -> Vec<String> {
    protocols
        .iter()
        .flat_map(|(name, steps)| steps.clone().map(move |step| format!("{name}:{step}")))
        .collect()
}

/// Starts a child that stops at `step`, holding a lock, and waits until it has.
pub(crate) fn stops_at<E: Serialize + 'static>(step: &str, test: &str, role: &str, end: &E) -> Role {
    let mut command = child(test, role, end);
    command.env("MP_STEP", format!("{step}:stop"));
    let role = Role::start(command);
    until("it is stopped", || state(&role.pid().to_string()) == "T");
    role
}

/// The letter of `thread`, a directory in `/proc`; none once it is gone.
pub(crate) fn state(thread: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    rest.split_ascii_whitespace().next().unwrap_or_default().to_owned()
}

/// Sends `signal`; waits until it is stopped by SIGSTOP.
pub(crate) fn signal(role: &Role, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(role.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    if signal == Signal::STOP {
        until("it is stopped", || state(&role.pid().to_string()) == "T");
    }
}
