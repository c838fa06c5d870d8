//! `docs`: the pages, with every warning an error.

use crate::command::{cargo, cargo_of, run as run_command, target_dir, works};
use crate::outcome::{Outcome, Verdict};

const WHAT: &str = "doc --workspace --no-deps --all-features --exclude xtask";

/// The verb: as docs.rs does it, with nightly, or with the stable compiler when there is no nightly.
pub(crate) fn run(_: &[String]) -> Outcome {
    if !works(cargo_of("nightly", "--version")) {
        println!("skipped: not installed (nightly); the stable compiler builds the pages instead");
        return stable();
    }
    let mut command = cargo_of("nightly", WHAT);
    command.env("RUSTDOCFLAGS", "--cfg docsrs -D warnings");
    command.env("CARGO_TARGET_DIR", target_dir().join("docs-nightly"));
    run_command(command)?;
    Ok(Verdict::Passed)
}

/// The part of `test-all`: the stable compiler.
pub(crate) fn stable() -> Outcome {
    let mut command = cargo(WHAT);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run_command(command)?;
    Ok(Verdict::Passed)
}
