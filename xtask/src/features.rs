//! `features`: every selection that a user may make compiles without a warning.

use crate::command::{cargo, flavoured, run as run_command};
use crate::manifest::{Manifest, Section};
use crate::outcome::{Outcome, from_faults};
use crate::workspace::{FACADE, crates};

/// The verb. Each line is a build of its own, so that no sibling's features leak in.
pub(crate) fn run(_: &[String]) -> Outcome {
    let mut faults = Vec::new();
    for one in crates()? {
        for selection in selections(&one.manifest, one.name == FACADE) {
            let command = cargo(&format!("check -p {} {selection}", one.name));
            if let Err(failure) = run_command(flavoured(command, "-D warnings", "features")) {
                faults.push(failure.to_string());
            }
        }
    }
    from_faults(&faults)
}

/// The default; with features of its own also none and all; `singly` also each alone.
fn selections(manifest: &Manifest, singly: bool) -> Vec<String> {
    let names: Vec<&str> =
        manifest.all("features").flat_map(Section::keys).filter(|name| *name != "default").collect();
    let mut found = vec![String::new()];
    if !names.is_empty() {
        found.push("--no-default-features".to_owned());
        found.push("--all-features".to_owned());
    }
    if singly {
        found.extend(names.iter().map(|name| format!("--no-default-features --features {name}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_features_has_one_selection() {
        assert_eq!(selections(&Manifest::parse("[package]\n"), true), [""]);
    }

    #[test]
    fn the_facade_is_built_with_each_feature_alone() {
        let manifest = Manifest::parse("[features]\ndefault = [\"a\"]\na = []\nb = [\n  \"dep:x\",\n]\n");
        let expected = [
            "",
            "--no-default-features",
            "--all-features",
            "--no-default-features --features a",
            "--no-default-features --features b",
        ];
        assert_eq!(selections(&manifest, true), expected);
        assert_eq!(selections(&manifest, false).len(), 3);
    }
}
