//! A process that goes well, and every way in which it does not.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{exists, gate, stand};
use mp_process::{ExitStatus, JoinError, JoinTimeoutError, Passed, Process, RemoteError, SpawnError, Stdio};
use mp_test::{guarded, until};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mp_process::enable_test_support!();

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn own_pid() -> u32 {
    std::process::id()
}

#[test]
fn smoke() {
    guarded(|| {
        let process = Process::spawn(add, (2, 3)).unwrap();
        assert_eq!(process.join().unwrap(), 5);
        assert_ne!(Process::spawn(own_pid, ()).unwrap().join().unwrap(), std::process::id());
        Process::spawn(drop::<String>, ("gone".to_owned(),)).unwrap().join().unwrap();
    });
}

fn none() -> String {
    String::new()
}

type Text = String;

fn one(a: u8) -> Text {
    format!("{a}")
}

fn two(a: u8, b: char) -> Text {
    format!("{a}{b}")
}

fn three(a: u8, b: char, c: String) -> Text {
    format!("{a}{b}{c}")
}

fn four(a: u8, b: char, c: String, d: bool) -> Text {
    format!("{a}{b}{c}{d}")
}

fn five(a: u8, b: char, c: String, d: bool, e: i64) -> Text {
    format!("{a}{b}{c}{d}{e}")
}

fn six(a: u8, b: char, c: String, d: bool, e: i64, f: Vec<u16>) -> Text {
    format!("{a}{b}{c}{d}{e}{f:?}")
}

fn seven(a: u8, b: char, c: String, d: bool, e: i64, f: Vec<u16>, g: (u8, u8)) -> Text {
    format!("{a}{b}{c}{d}{e}{f:?}{g:?}")
}

#[expect(clippy::too_many_arguments, reason = "this is the most")]
fn eight(a: u8, b: char, c: String, d: bool, e: i64, f: Vec<u16>, g: (u8, u8), h: Option<f64>) -> Text {
    format!("{a}{b}{c}{d}{e}{f:?}{g:?}{h:?}")
}

#[test]
fn up_to_eight_arguments_cross() {
    guarded(|| {
        let c = || "c".to_owned();
        let f = || vec![6];
        let started = [
            Process::spawn(none, ()).unwrap(),
            Process::spawn(one, (1,)).unwrap(),
            Process::spawn(two, (1, 'b')).unwrap(),
            Process::spawn(three, (1, 'b', c())).unwrap(),
            Process::spawn(four, (1, 'b', c(), true)).unwrap(),
            Process::spawn(five, (1, 'b', c(), true, -5)).unwrap(),
            Process::spawn(six, (1, 'b', c(), true, -5, f())).unwrap(),
            Process::spawn(seven, (1, 'b', c(), true, -5, f(), (7, 7))).unwrap(),
            Process::spawn(eight, (1, 'b', c(), true, -5, f(), (7, 7), Some(0.5))).unwrap(),
        ];
        let whole = "1bctrue-5[6](7, 7)Some(0.5)";
        let lengths = [0, 1, 2, 3, 7, 9, 12, 18, whole.len()];
        for (process, length) in started.into_iter().zip(lengths) {
            assert_eq!(process.join().unwrap(), whole[..length]);
        }
    });
}

fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

#[test]
fn closures_without_captures_and_generic_functions_cross() {
    guarded(|| {
        assert_eq!(Process::spawn(|n: u32| n + 1, (1,)).unwrap().join().unwrap(), 2);
        let words = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            Process::spawn(largest::<String>, (words,)).unwrap().join().unwrap().as_deref(),
            Some("b")
        );
        assert_eq!(Process::spawn(largest::<u8>, (vec![3, 9, 4],)).unwrap().join().unwrap(), Some(9));
    });
}

#[derive(Serialize, Deserialize)]
struct Options {
    greeting: String,
    times: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { greeting: "hello".into(), times: 1 }
    }
}

fn greet(whom: String, options: Options) -> String {
    format!("{} {whom}", options.greeting).repeat(options.times)
}

#[test]
fn keyword_arguments_are_a_struct_with_default() {
    guarded(|| {
        let options = Options { times: 2, ..Default::default() };
        assert_eq!(
            Process::spawn(greet, ("you".into(), options)).unwrap().join().unwrap(),
            "hello youhello you"
        );
        let options = Options::default();
        assert_eq!(Process::spawn(greet, ("you".into(), options)).unwrap().join().unwrap(), "hello you");
    });
}

#[test]
fn pid_and_state_are_those_of_the_child() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        assert!(exists(process.pid()));
        assert!(process.is_alive());
        assert_eq!(process.exit_status(), None);
        assert_eq!(process.try_wait().unwrap(), None);
        assert!(format!("{process:?}").contains(&process.pid().to_string()));
        drop(outer);
        assert_eq!(process.wait().unwrap(), ExitStatus::Code(0));
        assert!(!process.is_alive());
        assert_eq!(process.exit_status(), Some(ExitStatus::Code(0)));
        let pid = process.pid();
        assert_eq!(process.join().unwrap(), pid);
        assert!(!exists(pid), "reaped");
    });
}

#[test]
fn join_with_a_timeout_gives_the_handle_back_and_the_child_runs_on() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        let start = Instant::now();
        let error = process.join_timeout(Duration::from_millis(20)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(error.to_string().starts_with("timed out joining"), "{error}");
        let JoinTimeoutError::Running(process) = error else { panic!("{error}") };
        assert!(process.is_alive());
        assert_eq!(process.wait_timeout(Duration::ZERO).unwrap(), None);
        drop(outer);
        let pid = process.pid();
        assert_eq!(process.join_timeout(Duration::from_secs(600)).unwrap(), pid);
    });
}

#[test]
fn close_of_a_running_process_gives_the_handle_back() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        let error = process.close().unwrap_err();
        assert!(error.to_string().contains("runs on"), "{error}");
        let process = error.0;
        assert!(process.is_alive());
        drop(outer);
        process.wait().unwrap();
        assert_eq!(process.close().unwrap(), ExitStatus::Code(0));
    });
}

#[test]
fn terminate_kill_and_interrupt_end_it() {
    guarded(|| {
        type End = fn(&Process<u32>) -> std::io::Result<()>;
        let ways: [(End, i32); 3] = [(Process::terminate, 15), (Process::kill, 9), (Process::interrupt, 2)];
        for (end, signal) in ways {
            let (inner, _outer) = gate();
            let process = Process::spawn(stand, (inner,)).unwrap();
            end(&process).unwrap();
            assert_eq!(process.wait().unwrap().signal(), Some(signal));
            assert_eq!(process.exit_status().unwrap().python_code(), Some(-signal));
            end(&process).expect("one that has ended is no error");
            assert!(matches!(process.join(), Err(JoinError::Signal { number, .. }) if number == signal));
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "a child that exits by itself")]
fn exit(code: i32) {
    std::process::exit(code);
}

#[test]
fn an_exit_code_is_an_error_of_join() {
    guarded(|| {
        for code in [0, 3, 255] {
            let process = Process::spawn(exit, (code,)).unwrap();
            assert_eq!(process.wait().unwrap(), ExitStatus::Code(code));
            let error = process.join().unwrap_err();
            assert!(matches!(error, JoinError::Exit(found, _) if found == code), "{error}");
        }
    });
}

fn abort() {
    std::process::abort();
}

#[test]
fn a_signal_is_an_error_of_join() {
    guarded(|| {
        let process = Process::builder().core_dump(false).spawn(abort, ()).unwrap();
        let error = process.join().unwrap_err();
        assert!(matches!(error, JoinError::Signal { number: 6, core: false, .. }), "{error}");
        assert!(error.to_string().contains("SIGABRT"), "{error}");
    });
}

fn panics(text: String) {
    panic!("no {text}");
}

fn panics_with_a_number() {
    std::panic::panic_any(7);
}

fn panics_at_length() {
    panic!("{}", "x".repeat(1 << 20));
}

#[test]
fn a_panic_is_an_error_with_message_place_and_backtrace() {
    guarded(|| {
        let quiet = Process::builder().stderr(Stdio::Null);
        let process = quiet.spawn(panics, ("luck".to_owned(),)).unwrap();
        assert_eq!(process.wait().unwrap(), ExitStatus::Code(101));
        let JoinError::Panicked(panic) = process.join().unwrap_err() else { panic!("another error") };
        assert_eq!(panic.message, "no luck");
        assert!(panic.location.contains("tests/process.rs:"), "{}", panic.location);
        assert!(!panic.backtrace.is_empty());
        let JoinError::Panicked(panic) = quiet.spawn(panics_with_a_number, ()).unwrap().join().unwrap_err()
        else {
            panic!("another error")
        };
        assert!(panic.message.contains("no text"), "{}", panic.message);
    });
}

#[test]
fn a_long_panic_message_crosses_before_anybody_joins() {
    guarded(|| {
        let process = Process::builder().stderr(Stdio::Null).spawn(panics_at_length, ()).unwrap();
        // The pidfd alone is waited for: the report must not need a reader.
        mp_process::wait(&[&process], None).unwrap();
        let JoinError::Panicked(panic) = process.join().unwrap_err() else { panic!("another error") };
        assert_eq!(panic.message.len(), 1 << 20);
    });
}

fn catches() -> u32 {
    let caught = std::panic::catch_unwind(|| panic!("caught"));
    u32::from(caught.is_err())
}

#[test]
fn a_panic_that_the_function_catches_is_its_own_affair() {
    guarded(|| {
        let process = Process::builder().stderr(Stdio::Null).spawn(catches, ()).unwrap();
        assert_eq!(process.join().unwrap(), 1);
    });
}

fn parse(text: String) -> Result<i32, RemoteError> {
    Ok(text.parse::<i32>()?)
}

#[test]
fn a_returned_err_is_a_result() {
    guarded(|| {
        let process = Process::spawn(parse, ("x".into(),)).unwrap();
        assert!(process.wait().unwrap().success());
        let error = process.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), "core::num::error::ParseIntError");
        assert_eq!(error.to_string(), "invalid digit found in string");
        assert_eq!(Process::spawn(parse, ("-5".into(),)).unwrap().join().unwrap().unwrap(), -5);
    });
}

/// Does not serialise when it holds `true`, does not deserialise when it holds `false`.
struct Stubborn(bool);

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(S::Error::custom("stubborn")) } else { serializer.serialize_u8(0) }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Stubborn, D::Error> {
        Err(D::Error::custom("stubborn"))
    }
}

fn take_stubborn(_: Stubborn) {}

#[test]
fn what_cannot_be_encoded_or_decoded_is_an_error_on_its_side() {
    guarded(|| {
        let error = Process::spawn(take_stubborn, (Stubborn(true),)).unwrap_err();
        assert!(matches!(error, SpawnError::Encode(_)), "{error}");
        let error = Process::spawn(take_stubborn, (Stubborn(false),)).unwrap().join().unwrap_err();
        assert!(matches!(error, JoinError::Arguments(_)), "{error}");
        let error = Process::spawn(|| Stubborn(true), ()).unwrap().join().map(drop).unwrap_err();
        assert!(matches!(error, JoinError::Unencodable(_)), "{error}");
        let error = Process::spawn(|| Stubborn(false), ()).unwrap().join().map(drop).unwrap_err();
        assert!(matches!(error, JoinError::Undecodable(_)), "{error}");
    });
}

fn sum(bytes: Vec<u8>) -> (usize, u64) {
    (bytes.len(), bytes.iter().map(|&byte| u64::from(byte)).sum())
}

#[test]
fn a_hundred_megabytes_of_arguments_cross() {
    guarded(|| {
        const LEN: usize = 100_000_000;
        let process = Process::spawn(sum, (vec![3_u8; LEN],)).unwrap();
        assert_eq!(process.join().unwrap(), (LEN, 3 * LEN as u64));
    });
}

fn many(len: usize) -> Vec<u8> {
    (0..=255).cycle().take(len).collect()
}

#[test]
fn a_large_result_waits_for_a_late_join() {
    guarded(|| {
        // At the edge of what a socket's buffer holds, and far beyond.
        for len in [32 << 10, (32 << 10) + 1, 200_000, 10_000_000] {
            let process = Process::spawn(many, (len,)).unwrap();
            assert!(process.wait().unwrap().success());
            let result = process.join().unwrap();
            assert!(
                result.len() == len && result.iter().zip((0..=255).cycle()).all(|(a, b)| *a == b),
                "{len}"
            );
        }
    });
}

static SHARED: AtomicU32 = AtomicU32::new(1);

fn change_static() -> u32 {
    SHARED.fetch_add(41, Ordering::Relaxed) + 41
}

#[test]
fn statics_are_not_shared() {
    if help::is_copied("statics_are_not_shared") {
        return;
    }
    guarded(|| {
        SHARED.store(5, Ordering::Relaxed);
        assert_eq!(Process::spawn(change_static, ()).unwrap().join().unwrap(), 42, "a fresh one there");
        assert_eq!(SHARED.load(Ordering::Relaxed), 5, "unchanged here");
    });
}

#[test]
fn a_dropped_handle_leaves_the_process_running_and_reaps_it() {
    guarded(|| {
        let gates: Vec<_> = (0..5)
            .map(|_| {
                let (inner, outer) = gate();
                let process = Process::spawn(stand, (inner,)).unwrap();
                (process.pid(), outer)
            })
            .collect();
        for (pid, outer) in gates {
            assert!(exists(pid));
            drop(outer);
            until("it is reaped", || !exists(pid));
        }
    });
}

fn write_there(file: Passed<File>) -> Passed<File> {
    let mut file = file.into_inner();
    file.write_all(b"written by the child").unwrap();
    Passed(file)
}

#[test]
fn handles_are_arguments_and_results() {
    guarded(|| {
        let memory = rustix::fs::memfd_create("handles", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut here = File::from(memory);
        let process = Process::spawn(write_there, (Passed(here.try_clone().unwrap()),)).unwrap();
        let mut there = process.join().unwrap().into_inner();
        for file in [&mut here, &mut there] {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "written by the child");
        }
    });
}

#[test]
fn many_wait_for_one_at_once() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..8)
                .map(|n| {
                    let process = &process;
                    scope.spawn(move || match n % 2 {
                        0 => process.wait().unwrap(),
                        _ => process.wait_timeout(Duration::from_secs(600)).unwrap().unwrap(),
                    })
                })
                .collect();
            drop(outer);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), ExitStatus::Code(0));
            }
        });
        assert!(process.join().is_ok());
    });
}

#[test]
fn one_waits_for_many_at_once() {
    guarded(|| {
        let (inner, outer) = gate();
        let first = Process::spawn(stand, (inner,)).unwrap();
        let (inner, late) = gate();
        let second = Process::spawn(stand, (inner,)).unwrap();
        assert_eq!(mp_process::wait(&[&first, &second], Some(Duration::ZERO)).unwrap(), []);
        drop(late);
        assert_eq!(mp_process::wait(&[&first, &second], None).unwrap(), [1]);
        drop(outer);
        assert!(first.join().is_ok() && second.join().is_ok());
    });
}
