//! `package`: the archives that would be uploaded, each built from its own archive.

use crate::command::{cargo, run as run_command};
use crate::outcome::{Failure, Outcome, Verdict};
use crate::workspace::crates;

/// The verb. The network is asked only when the local registry cache does not suffice.
pub(crate) fn run(_: &[String]) -> Outcome {
    let published = crates()?.into_iter().filter(|one| one.is_published());
    let which: Vec<String> = published.map(|one| format!("-p {}", one.name)).collect();
    // Siblings that are not in the registry yet are verified together.
    let package = |offline: &str| -> Result<(), Failure> {
        run_command(cargo(&format!("package {} --allow-dirty {offline}", which.join(" "))))
    };
    if let Err(failure) = package("--offline") {
        println!("offline: {failure}; once more with the registry");
        package("")?;
    }
    Ok(Verdict::Passed)
}
