//! `conformance`: every proof that docs/coverage.md and docs/python.md name exists, and every test among them passed.
//!
//! A table whose last column is headed `test` or `proof` counts; each of its rows names at least one proof there, in
//! backticks: `crate::file::test_name`, `example NAME`, `doc FILE`, `xtask VERB`, or `cannot exist: reason`.

use std::fs;
use std::path::Path;

use crate::command::{root, scratch};
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome, from_faults};
use crate::results::{self, Ran};
use crate::source::{Blank, blanked, function_at};
use crate::workspace::{files, text};
use crate::{VERBS, suite};

const PAGES: &[&str] = &["docs/coverage.md", "docs/python.md"];

/// A row of a counted table: its line, and what its last column names.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    proofs: Vec<Proof>,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    /// The crate, the file or binary, modules, the test.
    Test(Vec<String>),
    Example(String),
    Doc(String),
    Verb(String),
    CannotExist,
    Unreadable(String),
}

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let tree = Tree::read()?;
    let mut faults = Vec::new();
    for page in PAGES {
        let rows = rows(&fs::read_to_string(root().join(page)).map_err(|error| format!("{page}: {error}"))?);
        println!("  {page}: {} rows", rows.len());
        if rows.is_empty() {
            faults.push(format!("{page}: no table whose last column is `test` or `proof`"));
        }
        for row in rows {
            let found = row.proofs.iter().filter_map(|proof| tree.fault(proof));
            faults.extend(found.map(|fault| format!("{page}:{}: {fault}", row.line)));
            if row.proofs.is_empty() {
                faults.push(format!("{page}:{}: a row without a proof", row.line));
            }
        }
    }
    from_faults(&faults)
}

/// What proofs are checked against.
struct Tree {
    files: Vec<String>,
    examples: Vec<String>,
    /// `None` when no whole run has left its output.
    ran: Option<Vec<Ran>>,
}

impl Tree {
    fn read() -> Result<Tree, Failure> {
        let manifest = Manifest::read(&root().join("examples/Cargo.toml"))?;
        let examples = manifest.all("example").filter_map(|example| example.string("name")).collect();
        let ran = fs::read_to_string(scratch(suite::LOG)?).ok().map(|text| results::parse(&text));
        match &ran {
            Some(ran) => println!("  against the {} tests of the last whole run", ran.len()),
            None => println!("  no whole run of the tests to compare with: only that they exist is checked"),
        }
        Ok(Tree { files: files()?, examples, ran })
    }

    fn fault(&self, proof: &Proof) -> Option<String> {
        match proof {
            Proof::Test(path) => self.test_fault(path),
            Proof::Example(name) if self.examples.contains(name) => None,
            Proof::Example(name) => Some(format!("no example `{name}`")),
            Proof::Doc(file) if self.files.contains(file) => None,
            Proof::Doc(file) => Some(format!("no file `{file}`")),
            Proof::Verb(name) if VERBS.iter().any(|(verb, ..)| verb == name) => None,
            Proof::Verb(name) => Some(format!("no verb `{name}`")),
            Proof::CannotExist => None,
            Proof::Unreadable(text) => Some(format!("not a proof: `{text}`")),
        }
    }

    fn test_fault(&self, path: &[String]) -> Option<String> {
        let shown = path.join("::");
        let declared = self.candidates(path).find_map(|file| declaration(&text(file).ok()?, path.last()?));
        let Some(is_ignored) = declared else {
            return Some(format!("no test `{shown}`"));
        };
        let ran = self.ran.as_ref()?.iter().find(|ran| is_same(ran, path));
        match ran {
            Some(ran) if ran.passed => None,
            Some(_) => Some(format!("`{shown}` failed")),
            None if is_ignored => None, // it belongs to `stress`
            None => Some(format!("`{shown}` did not run")),
        }
    }

    /// Where the test may be: `tests/FILE.rs`, below `tests/FILE/`, else anywhere in `src/`.
    fn candidates<'a>(&'a self, path: &[String]) -> impl Iterator<Item = &'a str> {
        let dirs = [format!("crates/{}/", path[0]), format!("{}/", path[0])];
        let file = path[1].clone();
        self.files.iter().map(String::as_str).filter(move |found| {
            let Some(rest) = dirs.iter().find_map(|dir| found.strip_prefix(dir.as_str())) else {
                return false;
            };
            let in_tests = rest
                .strip_prefix("tests/")
                .is_some_and(|rest| rest.split(['/', '.']).next() == Some(file.as_str()));
            rest.ends_with(".rs") && (in_tests || rest.starts_with("src/"))
        })
    }
}

/// Whether the source declares the test, and if so whether it is ignored by default.
fn declaration(source: &str, name: &str) -> Option<bool> {
    let code = blanked(source, Blank::CommentsAndStrings);
    let before = &code[..function_at(&code, name)?];
    let attributes = before.rfind(['}', ';', '{']).map_or(before, |end| &before[end..]);
    Some(attributes.contains("#[ignore"))
}

/// The runner's path may leave out modules that the page names, or the page some that the runner names.
fn is_same(ran: &Ran, path: &[String]) -> bool {
    let named = &path[1..];
    ran.krate == path[0]
        && ran.path.last() == named.last()
        && (is_within(named, &ran.path) || is_within(&ran.path, named))
}

/// Whether `all` contains the parts in their order, perhaps with others between.
fn is_within(parts: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    parts.iter().all(|part| all.any(|one| one == part))
}

/// The rows of every counted table.
fn rows(page: &str) -> Vec<Row> {
    let lines: Vec<&str> = page.lines().map(str::trim).collect();
    let mut found = Vec::new();
    let mut counted = false;
    for (index, line) in lines.iter().enumerate() {
        let cells = cells(line);
        let Some(last) = cells.last() else {
            counted = false;
            continue;
        };
        if lines.get(index + 1).is_some_and(|next| is_rule(next)) {
            let head = last.to_lowercase();
            counted = head.contains("test") || head.contains("proof");
        } else if counted && !is_rule(line) {
            found.push(Row { line: index + 1, proofs: proofs(last) });
        }
    }
    found
}

/// The cells of a table's row; none when the line is no row. A bar may be written `\|`.
fn cells(line: &str) -> Vec<String> {
    let Some(inner) = line.strip_prefix('|') else { return Vec::new() };
    let inner = inner.strip_suffix('|').unwrap_or(inner).replace("\\|", "\u{1}");
    inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

fn is_rule(line: &str) -> bool {
    line.starts_with('|') && line.contains('-') && line.chars().all(|c| "|-: ".contains(c))
}

/// What a cell names. `cannot exist: reason` may stand without backticks.
fn proofs(cell: &str) -> Vec<Proof> {
    if cell.starts_with("cannot exist") {
        return vec![proof(cell)];
    }
    cell.split('`').skip(1).step_by(2).map(proof).collect()
}

fn proof(text: &str) -> Proof {
    let unreadable = || Proof::Unreadable(text.to_owned());
    if let Some(reason) = text.strip_prefix("cannot exist") {
        let reason = reason.strip_prefix(':').unwrap_or_default();
        return if reason.trim().is_empty() { unreadable() } else { Proof::CannotExist };
    }
    match text.split_once(' ') {
        Some(("example", name)) => Proof::Example(name.trim().to_owned()),
        Some(("doc", file)) => Proof::Doc(Path::new(file.trim()).to_string_lossy().into_owned()),
        Some(("xtask", verb)) => Proof::Verb(verb.trim().to_owned()),
        Some(_) => unreadable(),
        None => test_path(text).map_or_else(unreadable, Proof::Test),
    }
}

/// `mp_lock::lock::smoke` or `mp-lock::lock::smoke`: at least a crate, a file and a name.
fn test_path(text: &str) -> Option<Vec<String>> {
    let mut path: Vec<String> = text.split("::").map(str::to_owned).collect();
    let is_name =
        |part: &String| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    path[0] = path[0].replace('_', "-");
    (path.len() >= 3 && path.iter().all(is_name)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        test_path(text).unwrap()
    }

    fn tree(ran: &[(&str, &[&str], bool)]) -> Tree {
        let ran = ran.iter().map(|(krate, path, passed)| Ran {
            krate: (*krate).to_owned(),
            path: path.iter().map(|&part| part.to_owned()).collect(),
            passed: *passed,
        });
        let files = ["docs/concepts.md", "xtask/src/conformance.rs", "crates/mp-lock/tests/it/main.rs"];
        Tree {
            files: files.map(str::to_owned).to_vec(),
            examples: vec!["tour".to_owned()],
            ran: Some(ran.collect()),
        }
    }

    const PAGE: &str = "
| Python | here |
| --- | --- |
| `Queue` | `Queue` |

| promise | test |
|---|:--|
| a \\| b | `mp_lock::lock::smoke`, `example tour` |
| c | `doc docs/concepts.md` and `xtask tidy` |
| d | cannot exist: Rust has no such thing |
| e | soon |
| f | `cannot exist` |

| g | `outside::of::tables` |
";

    #[test]
    fn only_tables_of_proofs_count() {
        let rows = rows(PAGE);
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [8, 9, 10, 11, 12]);
        assert_eq!(
            rows[0].proofs,
            [Proof::Test(path("mp-lock::lock::smoke")), Proof::Example("tour".to_owned())]
        );
        assert_eq!(
            rows[1].proofs,
            [Proof::Doc("docs/concepts.md".to_owned()), Proof::Verb("tidy".to_owned())]
        );
        assert_eq!(rows[2].proofs, [Proof::CannotExist]);
        assert!(rows[3].proofs.is_empty());
        assert!(matches!(rows[4].proofs[..], [Proof::Unreadable(_)]));
    }

    #[test]
    fn paths_need_three_parts() {
        assert!(test_path("mp_lock::smoke").is_none() && test_path("a::b::c()").is_none());
    }

    #[test]
    fn what_is_not_there_is_a_fault() {
        let tree = tree(&[]);
        for (good, bad) in [
            (Proof::Example("tour".into()), Proof::Example("detour".into())),
            (Proof::Doc("docs/concepts.md".into()), Proof::Doc("docs/none.md".into())),
            (Proof::Verb("tidy".into()), Proof::Verb("untidy".into())),
            (Proof::CannotExist, Proof::Unreadable("x y".into())),
        ] {
            assert_eq!(tree.fault(&good), None);
            assert!(tree.fault(&bad).is_some());
        }
        assert!(
            tree.fault(&Proof::Test(path("xtask::conformance::no_such_test"))).unwrap().contains("no test")
        );
    }

    #[test]
    fn a_test_must_have_run_and_passed() {
        let name = "a_test_must_have_run_and_passed";
        let proof = Proof::Test(path(&format!("xtask::conformance::{name}")));
        let parts: &[&str] = &["conformance", "tests", name];
        assert_eq!(tree(&[("xtask", parts, true)]).fault(&proof), None);
        assert!(tree(&[("xtask", parts, false)]).fault(&proof).unwrap().contains("failed"));
        assert!(tree(&[("mp-lock", parts, true)]).fault(&proof).unwrap().contains("did not run"));
    }

    #[test]
    fn an_ignored_test_is_told_apart() {
        let source =
            "mod a {\n#[test]\n#[ignore = \"long\"]\nfn one() {}\n#[test]\nfn two() {}\n// fn three() {}\n}";
        assert_eq!(declaration(source, "one"), Some(true));
        assert_eq!(declaration(source, "two"), Some(false));
        assert_eq!(declaration(source, "three"), None);
    }

    #[test]
    fn tests_of_a_runner_are_looked_for_in_its_directory() {
        let tree = tree(&[]);
        let found: Vec<_> = tree.candidates(&path("mp-lock::it::start")).collect();
        assert_eq!(found, ["crates/mp-lock/tests/it/main.rs"]);
        assert_eq!(tree.candidates(&path("mp-lock::lock::start")).count(), 0);
    }
}
