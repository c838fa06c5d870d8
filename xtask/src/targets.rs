//! `targets`: the seams to the other systems compile and are clean. No linker is needed.

use std::path::Path;
use std::process::Command;

use crate::command::{cargo, run as run_command, stdout_of, works};
use crate::outcome::{Failure, Outcome, Verdict};

const TARGETS: &[&str] = &["x86_64-pc-windows-gnu", "x86_64-apple-darwin", "aarch64-unknown-linux-gnu"];

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    if !works(cargo("clippy --version")) {
        return Ok(Verdict::Skipped("clippy".to_owned()));
    }
    let mut failed = Vec::new();
    for target in TARGETS {
        if !is_installed(target)? {
            println!("{target}: skipped: not installed (rustup target add {target})");
        } else if let Err(failure) = check(target) {
            failed.push(format!("{target}: {failure}"));
        }
    }
    crate::outcome::from_faults(&failed)
}

/// Whether the compiler has a standard library for the target; asks no rustup, which may be absent.
fn is_installed(target: &str) -> Result<bool, Failure> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", target]);
    Ok(Path::new(stdout_of(rustc)?.trim()).is_dir())
}

/// Tests are left out: they speak to the system on which they run.
fn check(target: &str) -> Result<(), Failure> {
    let what = "--workspace --lib --bins --examples --all-features";
    run_command(cargo(&format!("clippy {what} --target {target} -- -D warnings")))
}
