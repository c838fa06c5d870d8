//! `test CRATE`: one crate and those above it.

use crate::command::record;
use crate::outcome::{Outcome, Verdict};
use crate::{suite, test_all, workspace};

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    let name = args.first().ok_or("which crate? `cargo xtask test mp-lock`")?;
    let packages = workspace::and_above(name);
    if packages.is_empty() {
        return Err(format!("no crate `{name}`").into());
    }
    let which: Vec<String> = packages.iter().map(|package| format!("-p {package}")).collect();
    let which = which.join(" ");
    test_all::clippy(&which)?;
    suite::passed(&record(suite::command(&which, suite::STEPS, ""), true)?)?;
    test_all::doctests(&which)?;
    Ok(Verdict::Passed)
}
