//! A child has what it was given and nothing else: descriptors, arguments, output; whatever this process has.

#![expect(unsafe_code, reason = "descriptors without CLOEXEC, limits of this process")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{exists, gate, stand};
use mp_process::{JoinError, Limit, Passed, Process, Resource, Stdio};
use mp_test::{guarded, guarded_with_orphans, until};
use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

mp_process::enable_test_support!();

/// The open descriptors of this process and what they are.
fn descriptors() -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let what = std::fs::read_link(&path).ok()?.to_string_lossy().into_owned();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            (!what.ends_with("/fd")).then_some((number, what))
        })
        .collect();
    found.sort_unstable();
    found
}

/// How many, and the highest number.
fn extent() -> (usize, u32) {
    let found = descriptors();
    (found.len(), found.last().unwrap().0)
}

#[test]
fn smoke() {
    if help::is_copied("smoke") {
        return;
    }
    guarded(|| {
        let found = Process::spawn(descriptors, ()).unwrap().join().unwrap();
        let numbers: Vec<u32> = found.iter().map(|&(number, _)| number).collect();
        assert_eq!(numbers[..3], [0, 1, 2]);
        assert_eq!(found[0].1, "/dev/null");
        // Beyond the streams: the socket to the parent.
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[3].1.starts_with("socket:"), "{found:?}");
    });
}

#[test]
fn descriptors_do_not_grow_with_siblings() {
    if help::is_copied("descriptors_do_not_grow_with_siblings") {
        return;
    }
    guarded(|| {
        let alone = Process::spawn(extent, ()).unwrap().join().unwrap();
        let daemon =
            Process::builder().daemon(true).stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Tail(9));
        let siblings: Vec<_> = (0..20)
            .map(|_| {
                let (inner, outer) = gate();
                (daemon.spawn(stand, (inner,)).unwrap(), outer)
            })
            .collect();
        assert_eq!(Process::spawn(extent, ()).unwrap().join().unwrap(), alone);
        for (process, outer) in siblings {
            drop(outer);
            process.join().unwrap();
        }
    });
}

/// Opens nearly as many descriptors as may be, then starts a process.
fn with_many_open() -> ((usize, u32), usize) {
    let open: Vec<File> = (0..900).map(|_| File::open("/dev/null").unwrap()).collect();
    let found = Process::spawn(extent, ()).unwrap().join().unwrap();
    (found, open.len())
}

#[test]
fn nine_hundred_open_descriptors_do_not_matter() {
    if help::is_copied("nine_hundred_open_descriptors_do_not_matter") {
        return;
    }
    guarded(|| {
        let alone = Process::spawn(extent, ()).unwrap().join().unwrap();
        let builder = Process::builder().limit(Resource::OpenFiles, Limit::soft(1024));
        assert_eq!(builder.spawn(with_many_open, ()).unwrap().join().unwrap(), (alone, 900));
    });
}

/// Has a pipe both of whose ends every program that it starts inherits.
fn with_a_leaking_pipe() -> usize {
    let (mut reader, writer) = pipe().unwrap();
    for fd in [reader.as_fd(), writer.as_fd()] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let (inner, outer) = gate();
    let process = Process::spawn(stand, (inner,)).unwrap();
    // The streams, the socket, and the gate; what its start needed may be closed a moment after it has answered.
    let there = || std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
    until("the child has what it was given, and nothing else", || there() == 5);
    drop(writer);
    // The end comes though the child runs on.
    let read = reader.read_to_end(&mut Vec::new()).unwrap();
    assert!(process.is_alive());
    drop(outer);
    process.join().unwrap();
    read
}

#[test]
fn descriptors_that_would_be_inherited_are_closed_in_the_child() {
    if help::is_copied("descriptors_that_would_be_inherited_are_closed_in_the_child") {
        return;
    }
    guarded(|| {
        assert_eq!(Process::spawn(with_a_leaking_pipe, ()).unwrap().join().unwrap(), 0);
    });
}

fn command_line() -> Vec<u8> {
    std::fs::read("/proc/self/cmdline").unwrap()
}

#[test]
fn arguments_are_never_on_the_command_line() {
    guarded(|| {
        let shown = |secret: String| (secret, command_line());
        let (secret, line) = Process::spawn(shown, ("s3cret".to_owned(),)).unwrap().join().unwrap();
        assert_eq!(secret, "s3cret");
        assert_eq!(line, command_line(), "the very same as here");
    });
}

/// Leaves a grandchild that stands at the gate, and dies.
fn die_before_a_grandchild(gate: Passed<PipeReader>) {
    Command::new("sh").args(["-c", "read line"]).stdin(gate.into_inner()).spawn().unwrap();
    std::process::abort();
}

#[test]
fn join_of_a_dead_child_does_not_wait_for_its_children() {
    guarded_with_orphans(|| {
        let (inner, outer) = gate();
        let process = Process::builder().core_dump(false).spawn(die_before_a_grandchild, (inner,)).unwrap();
        assert!(matches!(process.join(), Err(JoinError::Signal { number: libc::SIGABRT, .. })));
        drop(outer);
    });
}

fn leave_output_unfinished() {
    print!("printed without an end of line");
    eprint!("and an error");
}

fn panic_with_output() {
    print!("before the panic");
    panic!("the whole message, to its end");
}

#[test]
fn what_is_buffered_is_written_before_the_end() {
    guarded(|| {
        let kept = Process::builder().stdout(Stdio::Tail(1 << 16)).stderr(Stdio::Tail(1 << 16));
        let process = kept.spawn(leave_output_unfinished, ()).unwrap();
        process.wait().unwrap();
        assert_eq!(process.stdout_tail().unwrap(), b"printed without an end of line");
        assert_eq!(process.stderr_tail().unwrap(), b"and an error");
        process.join().unwrap();
        let process = kept.spawn(panic_with_output, ()).unwrap();
        process.wait().unwrap();
        assert_eq!(process.stdout_tail().unwrap(), b"before the panic");
        let error = String::from_utf8(process.stderr_tail().unwrap()).unwrap();
        assert!(error.contains("the whole message, to its end"), "{error}");
        assert!(matches!(process.join(), Err(JoinError::Panicked(_))));
    });
}

/// Prints, without an end of line, and starts a process that prints too.
fn print_around_a_child() {
    print!("parent ");
    Process::spawn(|| print!("child "), ()).unwrap().join().unwrap();
}

#[test]
fn what_is_buffered_here_is_not_written_there() {
    if help::is_copied("what_is_buffered_here_is_not_written_there") {
        return;
    }
    guarded(|| {
        let process = Process::builder().stdout(Stdio::Tail(99)).spawn(print_around_a_child, ()).unwrap();
        process.wait().unwrap();
        assert_eq!(process.stdout_tail().unwrap(), b"child parent ");
        process.join().unwrap();
    });
}

fn main_thread_is_the_process() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

#[test]
fn the_function_runs_in_the_main_thread() {
    guarded(|| {
        assert!(Process::spawn(main_thread_is_the_process, ()).unwrap().join().unwrap());
        assert_ne!(rustix::thread::gettid(), rustix::process::getpid(), "unlike a test");
    });
}

/// A child that is joined by a thread which is interrupted all the time.
fn joined_under_signals(gate: Passed<PipeReader>) -> u32 {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = libc::sigaction {
        sa_sigaction: nothing as extern "C" fn(libc::c_int) as usize,
        // SAFETY: a sigaction of zeros is one without flags.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: the handler does nothing.
    unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    let process = Process::spawn(stand, (gate,)).unwrap();
    process.join().unwrap()
}

#[test]
fn join_goes_on_through_signals() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(joined_under_signals, (inner,)).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(process.pid()).unwrap()).unwrap();
        let status = format!("/proc/{}/status", process.pid());
        let usr1 = 1_u64 << (libc::SIGUSR1 - 1);
        until("it has its handler", || {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & usr1 != 0
        });
        for _ in 0..200 {
            rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
            std::thread::yield_now();
        }
        drop(outer);
        let grandchild = process.join().unwrap();
        assert!(!exists(grandchild), "joined and reaped");
    });
}

#[test]
fn the_descriptor_of_a_process_is_readable_once_it_has_ended() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        let readable = |timeout| mp_process::wait(&[&process], timeout).unwrap() == [0];
        assert!(!readable(Some(std::time::Duration::ZERO)));
        assert!(process.as_raw_fd() > 2 && process.as_fd().as_raw_fd() == process.as_raw_fd());
        drop(outer);
        assert!(readable(None));
        assert!(readable(None), "and stays so");
        process.join().unwrap();
    });
}
