//! `miri`: the parts that make no system call, with strict provenance.

use crate::command::{cargo_of, run as run_command, target_dir, works};
use crate::outcome::{Outcome, Verdict};
use crate::workspace::crates;

/// Unit tests in modules of these names are pure; the others ask the system, which Miri does not model.
const PURE: &str = "frame offset raw ring wire";

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    if !works(cargo_of("nightly", "miri --version")) {
        return Ok(Verdict::Skipped("nightly with miri".to_owned()));
    }
    for one in crates()? {
        if args.first().is_some_and(|only| *only != one.name) {
            continue;
        }
        let mut command = cargo_of("nightly", &format!("miri test -p {} --lib -- {PURE}", one.name));
        command.env("MIRIFLAGS", "-Zmiri-strict-provenance");
        command.env("CARGO_TARGET_DIR", target_dir().join("miri"));
        run_command(command)?;
    }
    Ok(Verdict::Passed)
}
