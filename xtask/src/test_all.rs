//! `test-all`: what must hold for every commit, section by section, timed, with a summary.

use std::fs;
use std::time::{Duration, Instant};

use crate::command::{cargo, run as run_command, scratch, works};
use crate::outcome::{Failure, Outcome, Verdict};
use crate::{alone, conformance, docs, examples, results, start_methods, steps, suite, tidy};

/// A section's name and what it does. All run, also after a failure.
type Section = (&'static str, fn() -> Outcome);

const SECTIONS: &[Section] = &[
    ("tidy", || tidy::run(&[])),
    ("fmt", fmt),
    ("clippy", || clippy("--workspace")),
    ("tests", suite::run_all),
    ("methods", || start_methods::run(&[])),
    ("doctests", || doctests("--workspace")),
    ("examples", examples::run_all),
    ("alone", || alone::run(&[])),
    ("docs", docs::stable),
    ("steps", || steps::run(&[])),
    ("conformance", || conformance::run(&[])),
];

struct Done {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let start = Instant::now();
    let done: Vec<Done> = SECTIONS.iter().map(|(name, section)| timed(name, *section)).collect();
    summary(&done, start.elapsed());
    let failed: Vec<&str> = done.iter().filter(|one| one.outcome.is_err()).map(|one| one.name).collect();
    if failed.is_empty() { Ok(Verdict::Passed) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn timed(name: &'static str, section: fn() -> Outcome) -> Done {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = section();
    let took = start.elapsed();
    println!("== {name}: {} in {:.1} s", word(&outcome), took.as_secs_f64());
    Done { name, outcome, took }
}

fn word(outcome: &Outcome) -> String {
    match outcome {
        Ok(Verdict::Passed) => "passed".to_owned(),
        Ok(Verdict::Skipped(tool)) => format!("skipped: not installed ({tool})"),
        Err(failure) => format!("FAILED: {failure}"),
    }
}

fn summary(done: &[Done], took: Duration) {
    println!("\n== summary");
    for one in done {
        println!("{:<12} {:>7.1} s  {}", one.name, one.took.as_secs_f64(), word(&one.outcome));
    }
    let count = |is: fn(&Outcome) -> bool| done.iter().filter(|one| is(&one.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Ok(Verdict::Passed)));
    let skipped = count(|outcome| matches!(outcome, Ok(Verdict::Skipped(_))));
    println!("sections: {passed} passed, {} failed, {skipped} skipped", done.len() - passed - skipped);
    let (good, bad) = counted().unwrap_or_default();
    println!("tests: {good} passed, {bad} failed; everything took {:.0} s", took.as_secs_f64());
}

/// How many tests the last run passed and failed.
fn counted() -> Result<(usize, usize), Failure> {
    let ran = results::parse(&fs::read_to_string(scratch(suite::LOG)?)?);
    let good = ran.iter().filter(|one| one.passed).count();
    Ok((good, ran.len() - good))
}

/// The layout of the source is rustfmt's.
pub(crate) fn fmt() -> Outcome {
    if !works(cargo("fmt --version")) {
        return Ok(Verdict::Skipped("rustfmt".to_owned()));
    }
    run_command(cargo("fmt --all --check"))?;
    Ok(Verdict::Passed)
}

/// No warning in any target of these packages.
pub(crate) fn clippy(which: &str) -> Outcome {
    if !works(cargo("clippy --version")) {
        return Ok(Verdict::Skipped("clippy".to_owned()));
    }
    run_command(cargo(&format!("clippy {which} --all-targets --all-features -- -D warnings")))?;
    Ok(Verdict::Passed)
}

/// The examples in the documentation, in the plain configuration: what a user builds.
pub(crate) fn doctests(which: &str) -> Outcome {
    run_command(cargo(&format!("test {which} --doc --no-fail-fast")))?;
    Ok(Verdict::Passed)
}
