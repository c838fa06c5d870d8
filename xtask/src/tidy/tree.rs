//! The files of the tree: what may stand at the top, how long a file may be, and what no file may say.

use std::path::Path;

use crate::command::root;
use crate::manifest::Manifest;
use crate::outcome::Failure;
use crate::source::has_word;
use crate::workspace::{files, text};

/// The top level holds these and nothing else.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".github",
    ".gitignore",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "crates",
    "deny.toml",
    "docs",
    "examples",
    "fuzz",
    "rustfmt.toml",
    "xtask",
];

/// Lines above which a file is looked at, and above which it is split.
const LONG: usize = 400;
const TOO_LONG: usize = 700;

pub(super) fn faults() -> Result<Vec<String>, Failure> {
    let files = files()?;
    let mut faults = top_faults(&files);
    faults.extend(example_faults(&Manifest::read(&root().join("examples/Cargo.toml"))?, &files));
    for path in &files {
        let text = text(path)?;
        let found = [
            length_faults(path, &text),
            word_faults(path, &text),
            place_faults(&text),
            core_faults(path, &text),
        ];
        faults.extend(found.concat().into_iter().map(|fault| format!("{path}: {fault}")));
    }
    Ok(faults)
}

fn top_faults(files: &[String]) -> Vec<String> {
    let mut tops: Vec<&str> = files.iter().filter_map(|path| path.split('/').next()).collect();
    tops.dedup();
    let strange = tops.iter().filter(|top| !TOP.contains(top)).map(|top| format!("{top} stands at the top"));
    let absent = TOP.iter().filter(|top| !tops.contains(top)).map(|top| format!("{top} is not there"));
    strange.chain(absent).collect()
}

/// Every examples/NAME.rs is an `[[example]]`, and every `[[example]]` has its file.
fn example_faults(manifest: &Manifest, files: &[String]) -> Vec<String> {
    let listed: Vec<String> = manifest.all("example").filter_map(|example| example.string("path")).collect();
    let there: Vec<&str> = files
        .iter()
        .filter_map(|path| path.strip_prefix("examples/"))
        .filter(|path| path.ends_with(".rs") && !path.contains('/'))
        .collect();
    let unlisted = there.iter().filter(|path| !listed.iter().any(|one| one == *path));
    let absent = listed.iter().filter(|one| !there.contains(&one.as_str()));
    let unlisted = unlisted.map(|path| format!("examples/{path} is no [[example]]"));
    unlisted.chain(absent.map(|path| format!("[[example]] {path} has no file"))).collect()
}

fn length_faults(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if !path.ends_with(".rs") || lines <= LONG {
        return Vec::new();
    }
    if lines > TOO_LONG {
        return vec![format!("{lines} lines, more than {TOO_LONG}")];
    }
    println!("  {path}: {lines} lines, more than {LONG}");
    Vec::new()
}

/// A note to do something later names the issue in which it is written down.
fn word_faults(path: &str, text: &str) -> Vec<String> {
    // In two parts, or this file would be a fault.
    const WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    if !matches!(extension, Some("rs" | "toml" | "yml" | "sh") | None) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let has_issue = line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        for word in WORDS.iter().filter(|word| has_word(line, word) && !has_issue) {
            faults.push(format!("line {}: {word} without an issue's number", index + 1));
        }
    }
    faults
}

/// Absolute paths of one machine are of no use on another.
fn place_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for place in ["work", "home", "root", "Users"].map(|top| format!("/{top}/")) {
        for (at, _) in text.match_indices(&place) {
            let before = text[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || "._-~})>*".contains(c)) {
                faults.push(format!("line {}: the path {place}…", text[..at].matches('\n').count() + 1));
            }
        }
    }
    faults
}

/// No user meets the foundation: not in an example, not in the documentation of another crate.
fn core_faults(path: &str, text: &str) -> Vec<String> {
    let is_example = path.starts_with("examples/") && path.ends_with(".rs");
    let is_other = path.starts_with("crates/") && !path.starts_with("crates/mp-core/");
    let is_readme = is_other && path.ends_with("/README.md");
    let is_source = is_other && path.contains("/src/") && path.ends_with(".rs");
    let is_doc = |line: &str| matches!(line.trim_start().get(..3), Some("///" | "//!"));
    let counts = |line: &str| is_example || is_readme || is_source && is_doc(line);
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains("mp_core::") && counts(line));
    lines.map(|(index, _)| format!("line {}: names mp_core to users", index + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|&path| path.to_owned()).collect()
    }

    #[test]
    fn only_the_listed_stand_at_the_top() {
        let mut files: Vec<String> = TOP.iter().map(|top| format!("{top}/x")).collect();
        assert!(top_faults(&files).is_empty());
        files.push("notes.txt".to_owned());
        files.remove(0);
        assert_eq!(top_faults(&files), ["notes.txt stands at the top", ".cargo is not there"]);
    }

    #[test]
    fn examples_are_complete() {
        let manifest = Manifest::parse("[[example]]\nname = \"a\"\npath = \"a.rs\"\n");
        assert!(example_faults(&manifest, &paths(&["examples/a.rs", "examples/src/lib.rs"])).is_empty());
        assert_eq!(
            example_faults(&manifest, &paths(&["examples/b.rs"])),
            ["examples/b.rs is no [[example]]", "[[example]] a.rs has no file"]
        );
    }

    #[test]
    fn long_files_are_faults() {
        assert!(length_faults("a.rs", &"\n".repeat(TOO_LONG)).is_empty());
        assert_eq!(length_faults("a.rs", &"\n".repeat(TOO_LONG + 1)).len(), 1);
        assert!(length_faults("a.md", &"\n".repeat(TOO_LONG + 1)).is_empty());
    }

    #[test]
    fn a_note_needs_an_issue() {
        let word = concat!("TO", "DO");
        assert_eq!(word_faults("a.rs", &format!("\n// {word}: later")).len(), 1);
        assert!(word_faults("a.rs", &format!("// {word} (#12): later")).is_empty());
        assert!(word_faults("a.rs", &format!("let {word}S = 1;")).is_empty());
    }

    #[test]
    fn paths_of_a_machine_are_faults() {
        let home = format!("/{}/", "home");
        assert_eq!(place_faults(&format!("a\nsee {home}me/x")), [format!("line 2: the path {home}…")]);
        assert!(place_faults(&format!("https://example.org{home}x")).is_empty());
    }

    #[test]
    fn the_foundation_is_not_shown_to_users() {
        let doc = "/// See [`mp_core::Wait`].\nuse mp_core::Wait;\n";
        assert_eq!(core_faults("crates/mp-lock/src/lib.rs", doc).len(), 1);
        assert!(core_faults("crates/mp-core/src/lib.rs", doc).is_empty());
        assert!(core_faults("crates/mp-lock/tests/a.rs", doc).is_empty());
        assert_eq!(core_faults("examples/a.rs", "use mp_core::Wait;\n").len(), 1);
        assert_eq!(core_faults("crates/mp-lock/README.md", "mp_core::Wait\n").len(), 1);
    }
}
