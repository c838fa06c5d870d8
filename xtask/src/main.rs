//! The project's verbs: `cargo xtask VERB`. CI calls nothing else, so green here is green there.

mod alone;
mod bench;
mod command;
mod conformance;
mod deny;
mod docs;
mod examples;
mod fallbacks;
mod features;
mod fuzz;
mod load;
mod loom;
mod manifest;
mod miri;
mod msrv;
mod outcome;
mod package;
mod results;
mod source;
mod start_methods;
mod steps;
mod stress;
mod suite;
mod targets;
mod test;
mod test_all;
mod tidy;
mod workspace;

use std::process::ExitCode;

use outcome::{Outcome, Verdict};

/// A verb, what it does in one line, and the function that does it.
type Verb = (&'static str, &'static str, fn(&[String]) -> Outcome);

/// Every verb, in the order in which `help` lists them.
pub(crate) const VERBS: &[Verb] = &[
    ("test-all", "everything below that proves the tree, timed, with a summary", test_all::run),
    ("test", "CRATE: lints, tests and doctests of one crate and of those above it", test::run),
    ("tidy", "layers, unsafe doors, first sentences, licences, lengths, top level", tidy::run),
    ("features", "each crate alone, each facade feature alone, none, all", features::run),
    ("targets", "clippy for Windows, macOS and aarch64 Linux", targets::run),
    ("docs", "the pages as docs.rs builds them, warnings as errors", docs::run),
    ("steps", "each numbered step of each protocol with the test that kills there", steps::run),
    ("conformance", "every proof named in docs/coverage.md and docs/python.md holds", conformance::run),
    ("alone", "per crate: a fresh package with that one dependency runs the README's program", alone::run),
    (
        "stress",
        "[--seconds N] [--kills N] [--repeat N] [-p CRATE] [--load]: ignored tests, or a suite again",
        stress::run,
    ),
    ("start-methods", "the tests of processes under each start method", start_methods::run),
    ("fallbacks", "the suite once per forced fallback", fallbacks::run),
    ("loom", "[CRATE] [--preemptions N]: the models", loom::run),
    ("fuzz", "[TARGET] [--seconds N]: arbitrary bytes for what other processes write", fuzz::run),
    ("miri", "[CRATE]: the pure parts under Miri", miri::run),
    ("bench", "[ROWS]: the comparison with peers and limits", bench::run),
    ("package", "what would be uploaded, built from the archive", package::run),
    ("msrv", "check with the oldest supported compiler", msrv::run),
    ("deny", "licences and advisories of the dependencies", deny::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((verb, rest)) = args.split_first() else {
        help();
        return ExitCode::FAILURE;
    };
    if verb == load::SPIN {
        // Not in the table: it is what `stress --load` runs beside the tests.
        load::spin();
        return ExitCode::SUCCESS;
    }
    match VERBS.iter().find(|(name, ..)| name == verb) {
        Some((name, _, run)) => report(name, run(rest)),
        None if matches!(verb.as_str(), "help" | "--help" | "-h") => {
            help();
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("no verb `{verb}`");
            help();
            ExitCode::FAILURE
        }
    }
}

fn report(name: &str, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Skipped(tool)) => {
            println!("skipped: not installed ({tool})");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn help() {
    println!("cargo xtask VERB");
    for (name, line, _) in VERBS {
        println!("  {name:<13} {line}");
    }
}
