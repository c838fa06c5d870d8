//! Each crate is complete, and says the same thing about itself everywhere.

use std::fs;

use crate::command::root;
use crate::manifest::Manifest;
use crate::outcome::Failure;
use crate::workspace::{Crate, crates};

const LICENCES: &[&str] = &["LICENSE-APACHE", "LICENSE-MIT"];

pub(super) fn faults() -> Result<Vec<String>, Failure> {
    let top = Manifest::read(&root().join("Cargo.toml"))?;
    let oldest = top.string("workspace.package", "rust-version").ok_or("no rust-version in Cargo.toml")?;
    let mut faults = Vec::new();
    for one in crates()? {
        let found = [files_faults(&one)?, sentence_faults(&one)?, version_faults(&one, &oldest)?].concat();
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", one.name)));
    }
    let readme =
        fs::read_to_string(root().join("README.md")).map_err(|error| format!("README.md: {error}"))?;
    let stated = stated_versions(&readme);
    if stated.is_empty() {
        faults.push("README.md states no MSRV".to_owned());
    }
    let wrong = stated.iter().filter(|version| **version != oldest);
    faults.extend(wrong.map(|version| format!("README.md says MSRV {version}, Cargo.toml {oldest}")));
    Ok(faults)
}

/// What every crate carries.
fn files_faults(one: &Crate) -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    for name in ["README.md", "CHANGELOG.md"] {
        if !one.dir.join(name).is_file() {
            faults.push(format!("no {name}"));
        }
    }
    for name in LICENCES {
        let ours = fs::read(root().join(name)).map_err(|error| format!("{name}: {error}"))?;
        match fs::read(one.dir.join(name)) {
            Ok(copy) if copy == ours => {}
            Ok(_) => faults.push(format!("{name} differs from the one at the top")),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    if one.manifest.all("package.metadata.docs.rs").next().is_none() {
        faults.push("no [package.metadata.docs.rs]".to_owned());
    }
    if one.manifest.raw("lints", "workspace") != Some("true") {
        faults.push("does not use the workspace's lints".to_owned());
    }
    Ok(faults)
}

/// The first sentence of lib.rs, the description and the README's first line are one.
fn sentence_faults(one: &Crate) -> Result<Vec<String>, Failure> {
    let Some(sentence) = one.manifest.string("package", "description") else {
        return Ok(vec!["no description".to_owned()]);
    };
    let lib = first_paragraph(&doc_lines(&fs::read_to_string(one.dir.join("src/lib.rs"))?));
    let readme = fs::read_to_string(one.dir.join("README.md")).unwrap_or_default();
    let readme = first_paragraph(&readme_lines(&readme));
    let mut faults = Vec::new();
    for (what, text) in [("src/lib.rs", lib), ("README.md", readme)] {
        if !begins_with(&text, &sentence) {
            faults.push(format!("{what} begins {text:?}, the description is {sentence:?}"));
        }
    }
    Ok(faults)
}

fn begins_with(text: &str, sentence: &str) -> bool {
    let rest = text.strip_prefix(sentence);
    sentence.ends_with('.') && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn doc_lines(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim).collect()
}

/// The lines after the title, badges left out.
fn readme_lines(readme: &str) -> Vec<&str> {
    let lines = readme.lines().map(str::trim).skip_while(|line| !line.starts_with("# ")).skip(1);
    lines.filter(|line| !(line.starts_with("[![") || line.starts_with("!["))).collect()
}

fn first_paragraph(lines: &[&str]) -> String {
    let text = lines.iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    text.copied().collect::<Vec<_>>().join(" ")
}

/// What a crate says of versions agrees with the manifests.
fn version_faults(one: &Crate, oldest: &str) -> Result<Vec<String>, Failure> {
    let readme = fs::read_to_string(one.dir.join("README.md")).unwrap_or_default();
    let wrong = stated_versions(&readme).into_iter().filter(|version| version != oldest);
    let mut faults: Vec<String> =
        wrong.map(|version| format!("README.md says MSRV {version}, Cargo.toml {oldest}")).collect();
    let lib = fs::read_to_string(one.dir.join("src/lib.rs"))?;
    let version = one.manifest.string("package", "version").unwrap_or_default();
    let url = format!("https://docs.rs/{}/{version}\"", one.name);
    if lib.contains("html_root_url") && !lib.contains(&url) {
        faults.push(format!("html_root_url is not the one of {version}"));
    }
    Ok(faults)
}

/// Every `1.NN` on a line that speaks of the MSRV or is a badge of it.
fn stated_versions(readme: &str) -> Vec<String> {
    let speaks = |line: &&str| line.to_lowercase().contains("msrv") || line.contains("/rustc-");
    let words = readme
        .lines()
        .filter(speaks)
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_digit() || c == '.')));
    let versions = words.map(|word| word.trim_matches('.')).filter(|word| word.starts_with("1."));
    versions.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_may_be_wrapped_and_follow_badges() {
        let readme = "# t\n\n[![badge](x)](y)\n\nOne thing,\nand another. More.\n\nRest.\n";
        let first = first_paragraph(&readme_lines(readme));
        assert!(begins_with(&first, "One thing, and another."));
        assert!(!begins_with(&first, "One thing, and another. Mor"));
        assert!(!begins_with(&first, "Something else."));
        assert_eq!(first_paragraph(&doc_lines("#![x]\n//! A.\n//! B.\n//!\n//! C.\n")), "A. B.");
    }

    #[test]
    fn versions_are_read_where_the_msrv_is_spoken_of() {
        assert_eq!(
            stated_versions("MSRV: 1.88.\nserde 1.0\n![](https://img/rustc-1.90+-blue)"),
            ["1.88", "1.90"]
        );
        assert!(stated_versions("nothing 1.88").is_empty());
    }
}
