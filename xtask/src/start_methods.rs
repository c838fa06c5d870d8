//! `start-methods`: the tests of processes once more under each start method but the default, which the tests themselves run under.

use crate::command::record;
use crate::outcome::{Outcome, from_faults};
use crate::suite;

/// What `crates/mp-process/tests/help` makes the default of the tests' program.
const METHODS: &[&str] = &["forkserver", "fork"];

/// The files whose tests hold under each of them; the others are about one, or about what does not compile.
const FILES: &[&str] = &[
    "family",
    "future",
    "hygiene",
    "options",
    "process",
    "process_death",
    "settings",
    "streams",
    "surroundings",
];

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let files: Vec<String> = FILES.iter().map(|file| format!("--test {file}")).collect();
    let which = format!("-p mp-process {}", files.join(" "));
    let mut faults = Vec::new();
    for method in METHODS {
        println!("  {method}");
        let mut command = suite::command(&which, suite::STEPS, "");
        command.env("MP_TEST_START_METHOD", method);
        if let Err(failure) = suite::passed(&record(command, true)?) {
            faults.push(format!("{method}: {failure}"));
        }
    }
    from_faults(&faults)
}
