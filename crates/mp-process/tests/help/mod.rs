//! What several tests use: the start method that the environment chooses, a gate at which a child waits.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unsafe_code, reason = "a constructor can only be named by its section; the promise of a fork")]

use mp_process::{Builder, ForkServer, Passed, Process, StartMethod, set_start_method, start_method};
use mp_test::guarded;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// This side of a gate.
#[derive(Debug)]
pub(crate) struct Gate(PipeWriter);

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Gate {
    /// A word, not only the end: a forked child has a copy of this side, and would wait for itself.
    fn drop(&mut self) {
        let _ = self.0.write_all(b"o");
    }
}

/// The child's side of a gate, and this side: the child stands there until this side is dropped.
pub(crate) fn gate() -> (Passed<PipeReader>, Gate) {
    let (reader, writer) = pipe().unwrap();
    (Passed(reader), Gate(writer))
}

/// Stands at the gate, then gives the own pid.
pub(crate) fn stand(gate: Passed<PipeReader>) -> u32 {
    let _ = gate.into_inner().read(&mut [0]).unwrap();
    std::process::id()
}

/// Whether the process is there, be it as a zombie.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Runs `test` with processes that come from a fork server, which ends with it.
pub(crate) fn served(test: impl FnOnce(&Builder)) {
    guarded(|| {
        test(&Process::builder().start_method(StartMethod::ForkServer));
        ForkServer::warm_up(|| ());
        ForkServer::spares(0).unwrap();
        ForkServer::stop();
    });
}

/// The children of this process that are neither the program's nor its fork server.
pub(crate) fn spares() -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path().join("children");
        let listed = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(listed.split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    found.retain(|pid| Some(*pid) != ForkServer::pid());
    found
}

/// Whether it is there and has not ended.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends `signal` to a process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// The same tests under each start method: `MP_TEST_START_METHOD=forkserver` or `fork` makes it the default of the test's
/// program, and of what it runs in roles.
#[used]
#[unsafe(link_section = ".init_array")]
static CHOOSE: extern "C" fn() = {
    extern "C" fn choose() {
        // A shell that runs this in the background ignores interrupts for it, and so would every child.
        // SAFETY: sets a disposition without a handler.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        match std::env::var("MP_TEST_START_METHOD").as_deref() {
            Ok("forkserver") => set_start_method(StartMethod::ForkServer),
            // SAFETY: the harness's other threads wait while a test runs, and children need nothing of theirs.
            Ok("fork") => set_start_method(unsafe { StartMethod::fork() }),
            _ => {}
        }
        mp_test::finally(ForkServer::stop);
    }
    choose
};

/// Whether a child is a copy of this process, of which `test` cannot hold; says so by name.
pub(crate) fn is_copied(test: &str) -> bool {
    let copied = matches!(start_method(), StartMethod::Fork(_));
    if copied {
        eprintln!("mp-test: {test} cannot hold of a copy of this process: not run under `fork`");
    }
    copied
}

/// Whether a child runs the program again, which is what `test` is about; says by name where it does not.
pub(crate) fn is_by_exec(test: &str) -> bool {
    let by_exec = start_method() == StartMethod::Spawn;
    if !by_exec {
        eprintln!("mp-test: {test} is about running the program again: not run under {:?}", start_method());
    }
    by_exec
}
