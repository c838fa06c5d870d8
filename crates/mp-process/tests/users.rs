//! A user's own crate, `tests/users/`, with one line in it: its tests run under libtest and nextest, its benches and doctests run.

mod package;

use mp_test::Watchdog;
use package::{Package, expect_success};
use std::process::Command;
use std::time::Duration;

fn package() -> Package {
    let bench = "[[bench]]\nname = \"plain\"\nharness = false";
    Package::new("users", bench)
        .with("users/src", "src")
        .with("users/tests", "tests")
        .with("users/benches", "benches")
}

/// Runs a verb of cargo, whose own time (it builds) does not count.
fn heard(build: &[&str], run: &[&str]) -> String {
    expect_success(&mut package().cargo(build));
    let watchdog = Watchdog::with_limit(Duration::from_secs(600));
    let mut command = package().cargo(run);
    // The outer runner's wishes are not for the inner one.
    command.env_remove("NEXTEST").env_remove("RUST_TEST_THREADS");
    let text = expect_success(&mut command);
    drop(watchdog);
    text
}

#[test]
fn tests_run_under_libtest() {
    let text = heard(&["test", "--no-run", "--lib", "--tests"], &["test", "--lib", "--tests"]);
    assert!(text.contains("3 passed") && text.contains("2 passed"), "{text}");
}

#[test]
fn tests_run_under_nextest() {
    let installed = Command::new(env!("CARGO")).args(["nextest", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("mp-test: tests_run_under_nextest cannot run here: cargo-nextest is not installed");
        return;
    }
    let mut command = package().cargo(&["nextest", "run", "--lib", "--tests"]);
    // The outer runner's wishes are not for the inner one.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NEXTEST")) {
        command.env_remove(name);
    }
    let watchdog = Watchdog::with_limit(Duration::from_secs(600));
    let output = command.output().expect("cargo");
    drop(watchdog);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("5 passed"), "{text}");
}

#[test]
fn doctests_run() {
    let text = heard(&["build", "--lib"], &["test", "--doc"]);
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn benches_run() {
    let text = heard(&["bench", "--no-run"], &["bench", "--bench", "plain"]);
    assert!(text.contains("a bench with processes"), "{text}");
}
