//! The crates of the workspace, their layers, and the files of the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{root, works};
use crate::manifest::Manifest;
use crate::outcome::Failure;

/// The facade.
pub(crate) const FACADE: &str = "multiprocess";

/// Which crates of ours each crate may depend on. A new edge needs a page in `docs/decisions/`.
pub(crate) const EDGES: &[(&str, &[&str])] = &[
    ("mp-test", &[]),
    ("mp-core", &[]),
    ("mp-shm", &["mp-core"]),
    ("mp-lock", &["mp-shm", "mp-core"]),
    ("mp-pipe", &["mp-shm", "mp-core"]),
    ("mp-process", &["mp-core"]),
    ("mp-queue", &["mp-pipe", "mp-lock", "mp-shm", "mp-core"]),
    ("mp-pool", &["mp-process", "mp-pipe", "mp-shm", "mp-core"]),
    // The foundation is not named by the facade: no user meets it.
    (FACADE, &["mp-lock", "mp-pipe", "mp-pool", "mp-process", "mp-queue", "mp-shm"]),
];

/// A crate below `crates/`.
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Crate {
    /// Whether it goes to the registry.
    pub(crate) fn is_published(&self) -> bool {
        self.manifest.raw("package", "publish") != Some("false")
    }
}

/// The crates in the order of their layers, lowest first, then any that no layer names.
pub(crate) fn crates() -> Result<Vec<Crate>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let dir = entry?.path();
        if dir.join("Cargo.toml").is_file() {
            let manifest = Manifest::read(&dir.join("Cargo.toml"))?;
            let name = manifest.string("package", "name").ok_or("a package without a name")?;
            found.push(Crate { name, dir, manifest });
        }
    }
    found.sort_by_key(|one| EDGES.iter().position(|(name, _)| *name == one.name).unwrap_or(EDGES.len()));
    Ok(found)
}

/// The crate itself and every crate that stands on it.
pub(crate) fn and_above(name: &str) -> Vec<&'static str> {
    // `mp-core` is not an edge of the facade, but what stands on it is: go by reachability.
    fn reaches(from: &str, to: &str) -> bool {
        let edges = EDGES.iter().find(|(one, _)| *one == from).map_or(&[][..], |(_, edges)| *edges);
        from == to || edges.iter().any(|edge| reaches(edge, to))
    }
    EDGES.iter().map(|(one, _)| *one).filter(|one| reaches(one, name)).collect()
}

/// Every file that is committed or would be, relative to the top directory, with `/` between parts.
pub(crate) fn files() -> Result<Vec<String>, Failure> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let mut known = Command::new("git");
    known.args(["rev-parse", "--git-dir"]).current_dir(root());
    let mut found: Vec<String> = if works(known) {
        let listed = crate::command::stdout_of(git)?;
        listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    } else {
        let mut walked = Vec::new();
        walk(&root(), "", &mut walked)?;
        walked
    };
    // A file that was removed but not yet committed as removed is still listed.
    found.retain(|path| root().join(path).is_file());
    found.sort();
    found.dedup();
    Ok(found)
}

/// Without git: everything but build directories.
fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) -> Result<(), Failure> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" && path != "xtask/bench/results" {
                walk(&entry.path(), &format!("{path}/"), found)?;
            }
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// The text of a file of the tree; bytes that are not UTF-8 are replaced.
pub(crate) fn text(path: &str) -> Result<String, Failure> {
    let bytes = fs::read(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_follows_the_layers() {
        assert_eq!(and_above("mp-pool"), ["mp-pool", "multiprocess"]);
        assert_eq!(and_above("mp-pipe"), ["mp-pipe", "mp-queue", "mp-pool", "multiprocess"]);
        assert_eq!(and_above("mp-core").len(), EDGES.len() - 1, "all but mp-test");
        assert!(and_above("no-such-crate").is_empty());
    }
}
