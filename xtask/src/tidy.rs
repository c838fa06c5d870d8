//! `tidy`: what a reviewer should not have to look for.

mod crates;
mod doors;
mod layers;
mod tree;

use crate::outcome::{Failure, Outcome, from_faults};

/// A check: its name, and the function that lists its faults.
type Check = (&'static str, fn() -> Result<Vec<String>, Failure>);

const CHECKS: &[Check] = &[
    ("layers", layers::faults),
    ("unsafe doors", doors::faults),
    ("crates", crates::faults),
    ("tree", tree::faults),
];

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let mut faults = Vec::new();
    for (name, check) in CHECKS {
        // A check that cannot be made is a fault like any other; the next one is still made.
        match check() {
            Ok(found) => faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}"))),
            Err(failure) => faults.push(format!("{name}: {failure}")),
        }
    }
    from_faults(&faults)
}
