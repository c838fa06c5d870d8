//! Standard streams that are files, ends of pipes, or kept as a tail.

#![expect(unsafe_code, reason = "a crash on purpose")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{JoinError, Passed, Process, SpawnError, Stdio};
use mp_test::{guarded, guarded_with_orphans, until};
use std::fs::File;
use std::io::{PipeReader, Read, Seek, Write};

mp_process::enable_test_support!();

fn write_lines(count: usize) {
    for n in 0..count {
        println!("line {n} of the output");
        eprintln!("line {n} of the error");
    }
}

fn keeping(bytes: usize) -> mp_process::Builder {
    Process::builder().stdout(Stdio::Tail(bytes)).stderr(Stdio::Tail(bytes)).core_dump(false)
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.unwrap()).unwrap()
}

#[test]
fn smoke() {
    guarded(|| {
        let process = keeping(1000).spawn(write_lines, (2,)).unwrap();
        assert!(process.wait().unwrap().success());
        assert_eq!(text(process.stdout_tail()), "line 0 of the output\nline 1 of the output\n");
        assert_eq!(text(process.stderr_tail()), "line 0 of the error\nline 1 of the error\n");
        process.join().unwrap();
        let process = Process::spawn(write_lines, (0,)).unwrap();
        assert_eq!((process.stdout_tail(), process.stderr_tail()), (None, None));
        process.join().unwrap();
    });
}

#[test]
fn a_child_whose_tail_is_kept_never_waits_for_a_reader() {
    guarded(|| {
        let processes: Vec<_> = (0..4).map(|_| keeping(30).spawn(write_lines, (20_000,)).unwrap()).collect();
        for process in &processes {
            assert!(process.wait().unwrap().success());
        }
        for process in processes {
            assert_eq!(text(process.stdout_tail()), "utput\nline 19999 of the output\n"[1..]);
            assert_eq!(process.stderr_tail().unwrap().len(), 30);
            process.join().unwrap();
        }
    });
}

#[test]
fn a_child_whose_handle_was_dropped_does_not_wait_either() {
    guarded(|| {
        let (inner, outer) = gate();
        drop(keeping(10).spawn(write_and_stand, (inner,)).unwrap());
        until("it has written all", || mp_process::active_children().is_empty() || gone(&outer));
        drop(outer);
        until("it is reaped", || mp_process::active_children().is_empty());
    });
}

/// Whether nobody stands at the gate any more.
fn gone(gate: &help::Gate) -> bool {
    rustix::io::write(gate, b"x").is_err()
}

/// Writes more than a pipe holds, then leaves the gate.
fn write_and_stand(gate: Passed<PipeReader>) {
    write_lines(5_000);
    drop(gate);
}

#[test]
fn a_tail_is_there_while_the_process_runs() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = keeping(100).spawn(greet_and_stand, (inner,)).unwrap();
        until("it has greeted", || process.stdout_tail().unwrap() == b"hello\n");
        assert!(process.is_alive());
        drop(outer);
        process.join().unwrap();
    });
}

fn greet_and_stand(gate: Passed<PipeReader>) {
    println!("hello");
    stand(gate);
}

fn crash() {
    println!("just before");
    eprintln!("about to crash");
    // SAFETY: there is nothing; the fault is the purpose.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
}

#[expect(clippy::disallowed_methods, reason = "a child that exits by itself")]
fn give_up() {
    eprintln!("giving up");
    std::process::exit(3);
}

#[test]
fn the_error_of_a_crash_shows_the_last_words() {
    guarded(|| {
        let error = keeping(200).spawn(crash, ()).unwrap().join().unwrap_err();
        assert!(matches!(error, JoinError::Signal { number: libc::SIGSEGV, core: false, .. }), "{error}");
        assert_eq!(text(error.last_words().unwrap().stderr.clone()), "about to crash\n");
        let shown = error.to_string();
        assert!(shown.contains("its standard error ends with:\nabout to crash"), "{shown}");
        assert!(shown.contains("its standard output ends with:\njust before"), "{shown}");
        let error = keeping(200).spawn(give_up, ()).unwrap().join().unwrap_err();
        let JoinError::Exit(3, last_words) = error else { panic!("{error}") };
        assert_eq!(text(last_words.stderr), "giving up\n");
        // Without a tail there are no words.
        let quiet = Process::builder().stderr(Stdio::Null).spawn(give_up, ()).unwrap();
        assert_eq!(
            quiet.join().unwrap_err().to_string(),
            "the process ended without a result, with exit code 3"
        );
    });
}

/// Leaves a program behind that keeps the standard streams open until the gate is opened.
fn leave_a_program(gate: Passed<PipeReader>) {
    let mut program = std::process::Command::new("sh");
    program.args(["-c", "read line"]).stdin(gate.into_inner()).spawn().unwrap();
    eprintln!("dying");
    std::process::abort();
}

#[test]
fn a_grandchild_that_keeps_the_streams_delays_nothing() {
    guarded_with_orphans(|| {
        let (inner, outer) = gate();
        let process = keeping(100).spawn(leave_a_program, (inner,)).unwrap();
        let error = process.join().unwrap_err();
        assert!(error.to_string().ends_with("its standard error ends with:\ndying"), "{error}");
        drop(outer);
    });
}

fn echo() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    print!("{text}");
}

fn memory() -> File {
    File::from(rustix::fs::memfd_create("streams", rustix::fs::MemfdFlags::CLOEXEC).unwrap())
}

#[test]
fn files_and_pipes_are_streams() {
    guarded(|| {
        let (mut input, mut output) = (memory(), memory());
        input.write_all(b"from a file").unwrap();
        input.rewind().unwrap();
        let builder = Process::builder().stdin(input).stdout(output.try_clone().unwrap());
        builder.spawn(echo, ()).unwrap().join().unwrap();
        // The second one finds the input at its end, as they share the position.
        builder.spawn(echo, ()).unwrap().join().unwrap();
        let mut found = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut found).unwrap();
        assert_eq!(found, "from a file");
        drop(builder);
        let mut first = Process::builder().stdout(Stdio::Piped).spawn(write_lines, (1,)).unwrap();
        let second = Process::builder().stdin(first.take_stdout().unwrap()).stdout(Stdio::Tail(99));
        let second = second.spawn(echo, ()).unwrap();
        first.join().unwrap();
        second.wait().unwrap();
        assert_eq!(text(second.stdout_tail()), "line 0 of the output\n");
        second.join().unwrap();
    });
}

#[test]
fn a_standard_input_has_no_tail() {
    guarded(|| {
        let error = Process::builder().stdin(Stdio::Tail(1)).spawn(echo, ()).unwrap_err();
        assert!(matches!(&error, SpawnError::Io(_)) && error.to_string().contains("no tail"), "{error}");
    });
}
