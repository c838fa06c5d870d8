//! Running the tests, with nextest when it is there.

use std::fs;
use std::process::Command;

use crate::command::{Recorded, cargo, flavoured, record, scratch, works};
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome, Verdict};
use crate::results::CRATE_LINE;

/// The configuration in which tests are built: `step!` is live, so that the death tests can kill there.
/// It serves all other tests too, so the tree is built once.
pub(crate) const STEPS: (&str, &str) = ("--cfg mp_steps", "steps");

/// Where the last whole run left its output, for `conformance`.
pub(crate) const LOG: &str = "tests.txt";

/// Runs every test of the workspace and keeps the output.
pub(crate) fn run_all() -> Outcome {
    let log = scratch(LOG)?;
    // A run that does not come to its end must not leave an older run's results to be believed.
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let (text, ended) = if has_nextest() { all_with_nextest()? } else { all_with_cargo_test()? };
    fs::write(&log, text)?;
    ended.map(|()| Verdict::Passed)
}

/// Output and end of the whole suite.
type Ended = (String, Result<(), Failure>);

fn all_with_nextest() -> Result<Ended, Failure> {
    let recorded = record(command("--workspace", STEPS, ""), true)?;
    let ended = passed(&recorded);
    Ok((recorded.text, ended))
}

/// Crate by crate, because cargo test does not say which crate a test belongs to.
fn all_with_cargo_test() -> Result<Ended, Failure> {
    println!("skipped: not installed (cargo-nextest); cargo test runs instead");
    let mut text = String::new();
    let mut failed = Vec::new();
    for package in packages()? {
        let recorded = record(command(&format!("-p {package}"), STEPS, ""), true)?;
        text.push_str(&format!("{CRATE_LINE}{package}\n{}", recorded.text));
        if !recorded.status.success() {
            failed.push(package);
        }
    }
    let ended = if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) };
    Ok((text, ended))
}

/// The command that runs the tests of `which` (`--workspace` or `-p CRATE …`) in a configuration, without doctests.
/// `filter` is handed to the runner.
pub(crate) fn command(which: &str, (flags, dir): (&str, &str), filter: &str) -> Command {
    let command = if has_nextest() {
        // The tests bring watchdogs of their own; nextest adds no second time-out.
        let options =
            "--no-fail-fast --no-tests pass --status-level pass --final-status-level fail --color never";
        cargo(&format!("nextest run {which} --all-features {options} {filter}"))
    } else {
        let filter = filter.replace("--run-ignored only", "-- --ignored");
        cargo(&format!("test {which} --all-features --no-fail-fast --tests --color never {filter}"))
    };
    flavoured(command, flags, dir)
}

/// A failure when the run's status is one.
pub(crate) fn passed(recorded: &Recorded) -> Result<(), Failure> {
    if recorded.status.success() { Ok(()) } else { Err(format!("tests failed: {}", recorded.status).into()) }
}

/// Whether `cargo nextest` can be used.
pub(crate) fn has_nextest() -> bool {
    works(cargo("nextest --version"))
}

/// Every package of the workspace: the crates, the examples, this one.
fn packages() -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = crate::workspace::crates()?.into_iter().map(|one| one.name).collect();
    for dir in ["examples", "xtask"] {
        let manifest = Manifest::read(&crate::command::root().join(dir).join("Cargo.toml"))?;
        names.extend(manifest.string("package", "name"));
    }
    Ok(names)
}
