//! Programs that are not as one expects: SIGCHLD is ignored, children are reaped by others, standard streams are closed.

#![expect(unsafe_code, reason = "dispositions of signals, foreign waits, and closing standard streams")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{ExitStatus, JoinError, Passed, Process, Stdio};
use mp_test::{guarded, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

mp_process::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

/// Ignores SIGCHLD, starts two processes, and tells what came back.
fn ignoring() -> (u64, bool, bool) {
    // SAFETY: sets a disposition without a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let good = Process::spawn(square, (7,)).unwrap();
    let status = good.wait().unwrap();
    let known = matches!(status, ExitStatus::Unknown | ExitStatus::Code(0));
    let result = good.join().unwrap();
    let (inner, _outer) = gate();
    let bad = Process::spawn(stand, (inner,)).unwrap();
    bad.kill().unwrap();
    let failed = matches!(bad.join(), Err(JoinError::Unknown(_) | JoinError::Signal { number: 9, .. }));
    (result, known, failed)
}

#[test]
fn smoke() {
    guarded(|| assert_eq!(Process::spawn(square, (2,)).unwrap().join().unwrap(), 4));
}

#[test]
fn a_process_that_ignores_sigchld_joins_all_the_same() {
    guarded(|| {
        assert_eq!(Process::spawn(ignoring, ()).unwrap().join().unwrap(), (49, true, true));
    });
}

/// Has every child reaped by somebody else before it is joined.
fn robbed() -> (u64, bool) {
    let process = Process::spawn(square, (6,)).unwrap();
    // SAFETY: nowhere to store the status.
    let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    let own = u32::try_from(reaped).unwrap() == process.pid();
    (process.join().unwrap(), own)
}

#[test]
fn a_process_whose_children_others_reap_joins_all_the_same() {
    guarded(|| {
        assert_eq!(Process::spawn(robbed, ()).unwrap().join().unwrap(), (36, true));
    });
}

/// Talks to its streams, then gives back what the file holds, which must be just what was put there.
fn talk_and_read(file: Passed<File>) -> String {
    println!("a line that nobody reads");
    eprintln!("another one");
    let _ = std::io::stdout().flush();
    let mut file = file.into_inner();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Closes the streams of `mask`, then starts processes in every way.
fn without_streams(mask: u32) -> Vec<String> {
    let memory = rustix::fs::memfd_create("streams", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(memory);
    file.write_all(b"whole").unwrap();
    for fd in (0..3).filter(|fd| mask & (1 << fd) != 0) {
        // SAFETY: nobody in this process owns a standard stream.
        unsafe { libc::close(fd) };
    }
    let builders = [
        Process::builder(),
        Process::builder().daemon(true),
        Process::builder().stdin(Stdio::Piped),
        Process::builder().stdin(Stdio::Inherit),
        Process::builder().stdout(Stdio::Null).stderr(Stdio::Null),
        Process::builder().stdout(Stdio::Piped).stderr(Stdio::Piped),
        Process::builder().current_dir("/"),
    ];
    let start = |builder: &mp_process::Builder| {
        let process = builder.spawn(talk_and_read, (Passed(file.try_clone().unwrap()),));
        match process.map_err(|error| error.to_string()).map(Process::join) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error,
        }
    };
    builders.iter().map(start).collect()
}

#[test]
fn closed_standard_streams_do_not_matter() {
    guarded(|| {
        for mask in 1..8_u32 {
            let builder = Process::builder().stdout(Stdio::Null).stderr(Stdio::Null);
            let found = builder.spawn(without_streams, (mask,)).unwrap().join().unwrap();
            assert_eq!(found, ["whole"; 7], "closed: {mask:03b}");
        }
    });
}

/// Starts processes until no descriptor is left, then lets all go and starts again: how many there were, and whether the error said why.
fn until_descriptors_end() -> (usize, bool, u64) {
    let (inner, outer) = gate();
    let inner = inner.into_inner();
    let mut started = Vec::new();
    let error = loop {
        let Ok(copy) = inner.try_clone() else { break None };
        match Process::spawn(stand, (Passed(copy),)) {
            Ok(process) => started.push(process),
            Err(error) => break Some(error),
        }
    };
    let said = error.is_none_or(|error| match error {
        mp_process::SpawnError::Io(error) => error.raw_os_error() == Some(libc::EMFILE),
        mp_process::SpawnError::TooManyHandles => true,
        // The new process has as few.
        mp_process::SpawnError::Refused(why) => why.contains("open files") || why.contains("RLIMIT_NOFILE"),
        _ => false,
    });
    drop((inner, outer));
    let count = started.len();
    for process in started {
        let pid = process.pid();
        assert_eq!(process.join().unwrap(), pid);
    }
    (count, said, Process::spawn(square, (5,)).unwrap().join().unwrap())
}

#[test]
fn few_descriptors_are_an_error_and_nothing_is_left_behind() {
    // Each would hold the other side of the gate at which all stand.
    if help::is_copied("few_descriptors_are_an_error_and_nothing_is_left_behind") {
        return;
    }
    guarded(|| {
        let limit = mp_process::Limit::soft(64);
        let builder = Process::builder().limit(mp_process::Resource::OpenFiles, limit);
        let (count, said, again) = builder.spawn(until_descriptors_end, ()).unwrap().join().unwrap();
        assert!(count > 5, "{count}");
        assert!(said, "the error says what is short");
        assert_eq!(again, 25);
    });
}

/// The file that tells what the thread waits in that reaps children whose handles were dropped.
fn reapers_call() -> Option<File> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_reaper = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "mp-reaper")
    };
    tasks.filter(is_reaper).find_map(|path| File::open(path.join("syscall")).ok())
}

/// Leaves more children to be reaped in the background than may be polled at once.
fn leave_more_than_may_be_polled() {
    const MOST: u64 = 8;
    let (inner, outer) = gate();
    let inner = inner.into_inner();
    let start = || Process::spawn(stand, (Passed(inner.try_clone().unwrap()),)).unwrap();
    (0..MOST).for_each(|_| drop(start()));
    let last = start();
    until("somebody reaps", || reapers_call().is_some());
    let mut call = reapers_call().unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(MOST), ..before }).unwrap();
    drop(last);
    until("who reaps rests between two attempts", || {
        let mut text = String::new();
        call.rewind().unwrap();
        call.read_to_string(&mut text).unwrap();
        text.split(' ').next() == Some(libc::SYS_clock_nanosleep.to_string().as_str())
    });
    setrlimit(Resource::Nofile, before).unwrap();
    drop(outer);
}

#[test]
fn whoever_may_poll_fewer_children_than_it_has_left_burns_no_processor() {
    if help::is_copied("whoever_may_poll_fewer_children_than_it_has_left_burns_no_processor") {
        return;
    }
    guarded(|| Process::spawn(leave_more_than_may_be_polled, ()).unwrap().join().unwrap());
}
