//! A program that forgets `init()`: it gets an error that says so, and never a chain of processes. Its `main` is its own, so that
//! nothing calls `init()` for it.

#![allow(clippy::unwrap_used, reason = "the test is `main`")]

use mp_process::{Process, SpawnError, active_children};

/// What this process sets for all below it: one that finds it has been started by a program that should not have.
const CHAIN: &str = "MP_NO_INIT_CHAIN";

fn never() {}

fn main() {
    // nextest asks for the names of the tests.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("a_program_without_init_gets_an_error_and_no_child: test");
        }
        return;
    }
    assert!(std::env::var_os(CHAIN).is_none(), "started by itself");
    let error = Process::builder().env(CHAIN, "1").spawn(never, ()).unwrap_err();
    println!("{error}");
    assert!(matches!(error, SpawnError::NotInitialized));
    assert!(error.to_string().contains("call") && error.to_string().contains("`init()`"), "names the cure");
    assert!(error.to_string().contains("first line of `main`"), "and where");
    assert!(active_children().is_empty());
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()));
    // Kernels without that file have said all above.
    assert_eq!(children.unwrap_or_default().trim(), "");
    println!("test a_program_without_init_gets_an_error_and_no_child ... ok");
}
