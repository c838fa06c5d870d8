//! `bench`: the comparison with peers and limits, a workspace of its own so that no peer enters ours.

use crate::command::{cargo, root, run as run_command};
use crate::outcome::{Outcome, Verdict};

const MANIFEST: &str = "xtask/bench/Cargo.toml";

/// The verb; every argument goes to the program.
pub(crate) fn run(args: &[String]) -> Outcome {
    if !root().join(MANIFEST).is_file() {
        return Ok(Verdict::Skipped(MANIFEST.to_owned()));
    }
    let mut command = cargo(&format!("run --release --manifest-path {MANIFEST} --"));
    // A shared build directory would mix two lock files' artefacts with ours.
    command.env_remove("CARGO_TARGET_DIR").args(args);
    run_command(command)?;
    Ok(Verdict::Passed)
}
