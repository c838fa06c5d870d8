//! `msrv`: the oldest supported compiler, read from Cargo.toml, checks the workspace.

use crate::command::{cargo_of, root, run as run_command, target_dir, works};
use crate::manifest::Manifest;
use crate::outcome::{Outcome, Verdict};

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let manifest = Manifest::read(&root().join("Cargo.toml"))?;
    let version = manifest.string("workspace.package", "rust-version").ok_or("no rust-version")?;
    if !works(cargo_of(&version, "--version")) {
        return Ok(Verdict::Skipped(format!("toolchain {version}")));
    }
    let mut command = cargo_of(&version, "check --workspace --all-targets");
    command.env("CARGO_TARGET_DIR", target_dir().join("msrv"));
    run_command(command)?;
    Ok(Verdict::Passed)
}
