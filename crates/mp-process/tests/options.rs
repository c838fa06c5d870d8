//! What a `Builder` asks for is what the process is like.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_process::{JoinError, Process, SpawnError, Stdio};
use mp_test::guarded;
use std::io::{Read, Write};
use std::path::PathBuf;

mp_process::enable_test_support!();

fn own_name() -> (String, String) {
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    (mp_process::current_process().name().to_owned(), comm.trim_end().to_owned())
}

#[test]
fn smoke() {
    guarded(|| {
        let builder = Process::builder().name("first").daemon(true);
        let process = builder.spawn(own_name, ()).unwrap();
        assert_eq!((process.name(), process.is_daemon()), ("first", true));
        assert_eq!(process.join().unwrap(), ("first".to_owned(), "first".to_owned()));
        // A builder starts as many as wanted.
        assert_eq!(builder.spawn(own_name, ()).unwrap().join().unwrap().0, "first");
    });
}

#[test]
fn the_first_fifteen_bytes_of_the_name_show_in_ps() {
    guarded(|| {
        let process = Process::builder().name("a rather long name").spawn(own_name, ()).unwrap();
        assert_eq!(process.name(), "a rather long name");
        let found = process.join().unwrap();
        assert_eq!(found, ("a rather long name".to_owned(), "a rather long n".to_owned()));
        let process = Process::builder().name("zero\0inside").spawn(own_name, ()).unwrap();
        assert_eq!(process.join().unwrap().0, "zero\0inside");
    });
}

fn read_all() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn standard_input_is_empty_or_a_pipe() {
    guarded(|| {
        let mut process = Process::spawn(read_all, ()).unwrap();
        assert!(process.take_stdin().is_none());
        assert_eq!(process.join().unwrap(), "");
        let piped = Process::builder().stdin(Stdio::Piped);
        let mut process = piped.spawn(read_all, ()).unwrap();
        let mut input = process.take_stdin().unwrap();
        input.write_all(b"through the pipe").unwrap();
        drop(input);
        assert_eq!(process.join().unwrap(), "through the pipe");
        assert_eq!(piped.spawn(read_all, ()).unwrap().join().unwrap(), "", "join closes what was not taken");
    });
}

fn talk() {
    println!("to the output");
    eprintln!("to the error");
    print!("without an end of line");
}

#[test]
fn standard_output_and_error_are_pipes() {
    guarded(|| {
        let builder = Process::builder().stdout(Stdio::Piped).stderr(Stdio::Piped);
        let mut process = builder.spawn(talk, ()).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        process.take_stdout().unwrap().read_to_string(&mut out).unwrap();
        process.take_stderr().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(out, "to the output\nwithout an end of line");
        assert_eq!(err, "to the error\n");
        process.join().unwrap();
        let mut process = Process::builder().stdout(Stdio::Null).stderr(Stdio::Null).spawn(talk, ()).unwrap();
        assert!(process.take_stdout().is_none() && process.take_stderr().is_none());
        process.join().unwrap();
    });
}

fn talk_to_nobody() -> bool {
    let mut out = std::io::stdout();
    out.write_all(&[b'x'; 1 << 17]).and_then(|()| out.flush()).is_err()
}

#[test]
fn a_dropped_pipe_is_an_error_for_the_writer_not_its_end() {
    guarded(|| {
        let mut process = Process::builder().stdout(Stdio::Piped).spawn(talk_to_nobody, ()).unwrap();
        drop(process.take_stdout());
        assert!(process.join().unwrap(), "SIGPIPE is ignored");
    });
}

fn variables(names: Vec<String>) -> Vec<Option<String>> {
    names.iter().map(|name| std::env::var(name).ok()).collect()
}

#[test]
fn the_environment_is_as_asked() {
    guarded(|| {
        let ask = |names: &[&str]| (names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(),);
        assert!(std::env::var("PATH").is_ok(), "a variable to inherit");
        let process = Process::builder().env("ADDED", "1").env_remove("PATH");
        let found = process.spawn(variables, ask(&["ADDED", "PATH"])).unwrap().join().unwrap();
        assert_eq!(found, [Some("1".to_owned()), None]);
        let process = Process::builder().env("BEFORE", "1").env_clear().env("AFTER", "2");
        let found = process.spawn(variables, ask(&["BEFORE", "AFTER", "PATH"])).unwrap().join().unwrap();
        assert_eq!(found, [None, Some("2".to_owned()), None]);
    });
}

fn own_marks() -> Vec<String> {
    std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("MULTIPROCESS")).collect()
}

#[test]
fn the_child_finds_no_mark_of_ours_in_its_environment() {
    guarded(|| {
        assert_eq!(Process::spawn(own_marks, ()).unwrap().join().unwrap(), Vec::<String>::new());
    });
}

fn own_dir() -> PathBuf {
    std::env::current_dir().unwrap()
}

#[test]
fn the_working_directory_is_as_asked() {
    guarded(|| {
        let process = Process::spawn(own_dir, ()).unwrap();
        assert_eq!(process.join().unwrap(), own_dir());
        let process = Process::builder().current_dir("/").spawn(own_dir, ()).unwrap();
        assert_eq!(process.join().unwrap(), PathBuf::from("/"));
        let error = Process::builder().current_dir("/not/there").spawn(own_dir, ()).unwrap_err();
        assert!(matches!(error, SpawnError::Io(_)), "{error}");
    });
}

fn reserve(bytes: usize) -> bool {
    let mut memory = Vec::<u8>::new();
    memory.try_reserve_exact(bytes).is_ok()
}

fn fill(bytes: usize) -> usize {
    vec![1_u8; bytes].len()
}

#[test]
fn a_memory_limit_holds() {
    guarded(|| {
        const MIB: usize = 1 << 20;
        assert!(Process::spawn(reserve, (1024 * MIB,)).unwrap().join().unwrap());
        let limited = Process::builder().memory_limit(256 << 20).core_dump(false).stderr(Stdio::Null);
        assert!(limited.spawn(reserve, (16 * MIB,)).unwrap().join().unwrap());
        assert!(!limited.spawn(reserve, (1024 * MIB,)).unwrap().join().unwrap());
        let error = limited.spawn(fill, (1024 * MIB,)).unwrap().join().unwrap_err();
        assert!(matches!(error, JoinError::Signal { number: 6, core: false, .. }), "{error}");
    });
}

fn core_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Core).current
}

#[test]
fn core_dumps_are_as_asked() {
    guarded(|| {
        assert_eq!(Process::spawn(core_limit, ()).unwrap().join().unwrap(), core_limit());
        let process = Process::builder().core_dump(false).spawn(core_limit, ()).unwrap();
        // One byte is what also programs that the kernel feeds through a pipe respect.
        assert!(process.join().unwrap().is_some_and(|most| most <= 1));
        let most = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
        let process = Process::builder().core_dump(true).spawn(core_limit, ()).unwrap();
        assert_eq!(process.join().unwrap(), most);
    });
}
