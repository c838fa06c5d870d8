//! Whole programs, with a `main` of their own: what happens before `init()`, and around the standard streams. Their sources are in
//! `tests/programs/`.

mod package;

use mp_test::guarded;
use package::{Package, expect_success};
use std::process::Command;

fn package() -> Package {
    let tokio =
        "[dependencies.tokio]\nversion = \"1\"\ndefault-features = false\nfeatures = [\"rt-multi-thread\"]";
    Package::new("programs", tokio).with("programs", "src/bin")
}

fn run(name: &str, argument: &str) {
    let (program, built) = package().build(name);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    guarded(|| {
        expect_success(Command::new(program).arg(argument));
    });
}

#[test]
fn a_child_that_exits_before_init_is_an_error() {
    run("early", "exit");
}

#[test]
fn a_child_that_crashes_before_init_is_an_error() {
    run("early", "crash");
}

#[test]
fn a_child_that_stops_before_init_is_an_error() {
    run("early", "stop");
}

#[test]
fn a_child_that_never_calls_init_starts_no_chain_of_processes() {
    run("early", "never");
}

#[test]
fn a_child_that_closes_its_input_before_init_is_an_error() {
    run("early", "close");
}

#[test]
fn a_program_started_before_init_is_not_taken_for_the_child() {
    run("early", "program");
}

#[test]
fn threads_before_init_are_an_error_that_names_the_cure() {
    run("early", "threads");
}

#[test]
fn an_async_runtime_before_init_is_an_error_that_names_the_cure() {
    run("early", "runtime");
}

#[test]
fn threads_of_libraries_are_let_in_where_the_program_says_so() {
    run("beside_threads", "");
}

#[test]
fn five_thousand_arguments_and_two_megabytes_of_environment_do_not_matter() {
    let (program, built) = package().build("whole");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    guarded(|| {
        let mut command = Command::new(program);
        command.args((0..5000).map(|n| n.to_string()));
        // The kernel takes no longer string, and from its default limits no more altogether.
        command.env_clear().envs((0..20).map(|n| (format!("LONG_{n}"), "x".repeat(100_000))));
        expect_success(&mut command);
    });
}

#[test]
fn a_program_whose_file_was_deleted_or_replaced_starts_processes() {
    run("replaced", "");
}

#[test]
fn a_thread_that_keeps_standard_output_locked_delays_neither_start_nor_end() {
    run("locked", "");
}

#[test]
fn a_join_reads_the_pipes_that_nobody_took() {
    run("unread", "");
}
