//! Only downward, never sideways or up; and what the project is built on is really in the default build.

use crate::command::{cargo, stdout_of};
use crate::manifest::Section;
use crate::outcome::Failure;
use crate::workspace::{EDGES, FACADE, crates};

/// What the default build stands on.
const REQUIRED: &[&str] = &["interprocess", "shared_memory", "raw_sync", "serde", "postcard"];

pub(super) fn faults() -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    for one in crates()? {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == one.name) else {
            faults.push(format!("{} has no layer", one.name));
            continue;
        };
        let tree = stdout_of(cargo(&format!("tree -p {} --edges normal --depth 1 --prefix none", one.name)))?;
        faults.extend(wrong_edges(&one.name, &tree, allowed));
        let listed = ["dependencies", "build-dependencies"].map(|header| one.manifest.all(header));
        if listed.into_iter().flatten().flat_map(Section::keys).any(|key| key == "mp-test") {
            faults.push(format!("{} depends on mp-test outside dev-dependencies", one.name));
        }
    }
    let tree = stdout_of(cargo(&format!("tree -p {FACADE} --edges normal --prefix none")))?;
    faults.extend(missing(&tree));
    Ok(faults)
}

/// Edges of the tree, one package a line with the crate itself first, that are not allowed.
fn wrong_edges(krate: &str, tree: &str, allowed: &[&str]) -> Vec<String> {
    let ours = names(tree).skip(1).filter(|name| EDGES.iter().any(|(one, _)| one == name));
    ours.filter(|name| !allowed.contains(name)).map(|name| format!("{krate} depends on {name}")).collect()
}

fn missing(tree: &str) -> Vec<String> {
    let absent = REQUIRED.iter().filter(|required| !names(tree).any(|name| name == **required));
    absent.map(|name| format!("the default build of {FACADE} does not use {name}")).collect()
}

fn names(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter_map(|line| line.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "mp-queue v0.1.0 (x)\nmp-core v0.1.0 (x)\nmp-pool v0.1.0 (x)\nserde v1.0.0\n";

    #[test]
    fn an_edge_upward_is_a_fault() {
        assert_eq!(wrong_edges("mp-queue", TREE, &["mp-core"]), ["mp-queue depends on mp-pool"]);
        assert!(wrong_edges("mp-queue", TREE, &["mp-core", "mp-pool"]).is_empty());
    }

    #[test]
    fn a_missing_foundation_is_a_fault() {
        assert_eq!(missing(TREE).len(), REQUIRED.len() - 1);
        let all: String = REQUIRED.iter().map(|name| format!("{name} v1.0.0 (*)\n")).collect();
        assert!(missing(&all).is_empty());
    }
}
