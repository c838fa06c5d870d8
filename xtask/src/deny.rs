//! `deny`: licences, sources and advisories of every dependency, as deny.toml allows them.

use crate::command::{cargo, run as run_command, works};
use crate::outcome::{Outcome, Verdict};

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    if !works(cargo("deny --version")) {
        return Ok(Verdict::Skipped("cargo-deny".to_owned()));
    }
    run_command(cargo("deny check"))?;
    Ok(Verdict::Passed)
}
