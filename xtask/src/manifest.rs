//! As much of a Cargo.toml as the verbs need: sections, keys, strings and arrays of strings.

use std::fs;
use std::path::Path;

use crate::outcome::Failure;

/// A manifest, section by section in the file's order.
pub(crate) struct Manifest {
    sections: Vec<Section>,
}

/// One `[header]` or `[[header]]` with its keys.
pub(crate) struct Section {
    header: String,
    entries: Vec<(String, String)>,
}

impl Manifest {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Manifest, Failure> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Manifest::parse(&text))
    }

    /// Reads a text. Values that run over several lines are joined.
    pub(crate) fn parse(text: &str) -> Manifest {
        let mut sections = vec![Section { header: String::new(), entries: Vec::new() }];
        let mut open: Option<(String, String)> = None;
        for line in text.lines() {
            let line = without_comment(line).trim();
            if let Some((key, value)) = open.take() {
                keep(&mut sections, &mut open, key, value + line);
            } else if line.starts_with('[') {
                let header = line.trim_matches(['[', ']']).trim().to_owned();
                sections.push(Section { header, entries: Vec::new() });
            } else if let Some((key, value)) = line.split_once('=') {
                keep(&mut sections, &mut open, unquoted(key.trim()), value.trim().to_owned());
            }
        }
        Manifest { sections }
    }

    /// Every section with this header; more than one for `[[header]]`.
    pub(crate) fn all<'a>(&'a self, header: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |section| section.header == header)
    }

    /// The raw value of `key` in the first such section.
    pub(crate) fn raw(&self, header: &str, key: &str) -> Option<&str> {
        self.sections.iter().filter(|section| section.header == header).find_map(|section| section.raw(key))
    }

    /// The string value of `key`.
    pub(crate) fn string(&self, header: &str, key: &str) -> Option<String> {
        self.raw(header, key).map(unquoted)
    }
}

impl Section {
    /// The keys in their order; `mp-core.workspace = true` counts as `mp-core`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.split('.').next().unwrap_or(key))
    }

    /// The value as written.
    pub(crate) fn raw(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of a string.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        self.raw(key).map(unquoted)
    }

    /// The values of an array of strings; empty when there is no such key.
    pub(crate) fn strings(&self, key: &str) -> Vec<String> {
        strings(self.raw(key).unwrap_or_default())
    }
}

/// Files the value, or keeps it open when its brackets are not closed yet.
fn keep(sections: &mut [Section], open: &mut Option<(String, String)>, key: String, value: String) {
    let depth = |a: char, b: char| value.matches(a).count() > value.matches(b).count();
    if depth('[', ']') || depth('{', '}') {
        *open = Some((key, value + " "));
    } else if let Some(section) = sections.last_mut() {
        section.entries.push((key, value));
    }
}

/// Every quoted string in a value.
pub(crate) fn strings(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some(start) = rest.find(['"', '\'']) {
        let quote = &rest[start..=start];
        let Some(end) = rest[start + 1..].find(quote) else { break };
        found.push(rest[start + 1..start + 1 + end].to_owned());
        rest = &rest[start + end + 2..];
    }
    found
}

fn unquoted(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
}

/// The line up to a `#` that is not inside a string.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[package]
name = "a" # its name
description = "Says # and, all."

[dependencies]
mp-core.workspace = true
serde = { version = "1", features = ["derive"] }

[[example]]
name = "one"
path = "one.rs"

[[example]]
name = "two"

[package.metadata.examples.two]
args = [
    "--flag", # first
    "a b",
]
"#;

    #[test]
    fn strings_keys_and_repeated_sections_are_found() {
        let manifest = Manifest::parse(TEXT);
        assert_eq!(manifest.string("package", "name").as_deref(), Some("a"));
        assert_eq!(manifest.string("package", "description").as_deref(), Some("Says # and, all."));
        let names: Vec<_> = manifest.all("example").filter_map(|example| example.string("name")).collect();
        assert_eq!(names, ["one", "two"]);
        let dependencies: Vec<_> = manifest.all("dependencies").flat_map(Section::keys).collect();
        assert_eq!(dependencies, ["mp-core", "serde"]);
    }

    #[test]
    fn an_array_may_run_over_lines() {
        let manifest = Manifest::parse(TEXT);
        let section = manifest.all("package.metadata.examples.two").next().unwrap();
        assert_eq!(section.strings("args"), ["--flag", "a b"]);
        assert!(section.strings("nothing").is_empty());
        assert_eq!(manifest.string("package", "absent"), None);
    }
}
