//! Unsafe code stands only in files that say so at their top, and docs/safety.md lists exactly these.

use std::collections::BTreeSet;
use std::fs;

use crate::command::root;
use crate::outcome::Failure;
use crate::source::{Blank, blanked, has_word};
use crate::workspace::{files, text};

const PAGE: &str = "docs/safety.md";

pub(super) fn faults() -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    let mut open = BTreeSet::new();
    for path in files()?.into_iter().filter(|path| is_source(path)) {
        match door(&text(&path)?) {
            Door::Open => _ = open.insert(path),
            Door::Closed => {}
            Door::Unmarked => {
                faults.push(format!("{path} has unsafe code and no `#![expect(unsafe_code, …)]`"))
            }
        }
    }
    // No page is an empty list: every door is then one that is not listed.
    let listed = listed(&fs::read_to_string(root().join(PAGE)).unwrap_or_default());
    faults.extend(open.difference(&listed).map(|path| format!("{path} is not listed in {PAGE}")));
    faults.extend(listed.difference(&open).map(|path| format!("{PAGE} lists {path}, which is no door")));
    Ok(faults)
}

/// Tests are held by the compiler's lint alone: they are not shipped.
fn is_source(path: &str) -> bool {
    let shipped = path.starts_with("crates/") && path.contains("/src/");
    path.ends_with(".rs") && (shipped || path.starts_with("examples/") || path.starts_with("xtask/src/"))
}

#[derive(Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
    Unmarked,
}

fn door(source: &str) -> Door {
    let code = blanked(source, Blank::CommentsAndStrings);
    let dense: String = code.split_whitespace().collect();
    // A macro that expands to unsafe code in its user's crate allows it there, with a reason.
    let in_macro = dense.contains("macro_rules!") && dense.contains("#[allow(unsafe_code,");
    if dense.contains("#![expect(unsafe_code") || in_macro {
        Door::Open
    } else if has_word(&code, "unsafe") {
        Door::Unmarked
    } else {
        Door::Closed
    }
}

/// The paths in backticks that begin the list's items below the heading "Doors".
fn listed(page: &str) -> BTreeSet<String> {
    let below = page.lines().skip_while(|line| !(line.starts_with('#') && line.contains("Doors"))).skip(1);
    let section = below.take_while(|line| !line.starts_with('#'));
    let items = section.filter_map(|line| line.trim_start().strip_prefix(['-', '*']));
    items.filter_map(|item| item.split('`').nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_says_so_at_its_top() {
        assert_eq!(door("#![expect(unsafe_code, reason = \"x\")]\nunsafe { f() }"), Door::Open);
        assert_eq!(door("#![expect(\n    unsafe_code,\n    reason = \"x\"\n)]"), Door::Open);
        assert_eq!(
            door("macro_rules! m { () => { #[allow(unsafe_code, reason = \"x\")] unsafe {} } }"),
            Door::Open
        );
        assert_eq!(door("fn f() { unsafe { g() } }"), Door::Unmarked);
        assert_eq!(door("#[expect(unsafe_code)]\nunsafe impl Send for X {}"), Door::Unmarked);
        assert_eq!(door("// unsafe { }\n#![forbid(unsafe_code)]\nlet s = \"unsafe {\";"), Door::Closed);
    }

    #[test]
    fn only_the_doors_section_is_read() {
        let page =
            "# Safety\n- `no`\n## Doors\n\n- `a/b.rs`: the `OS`\n* `c.rs`\ntext `d.rs`\n## Rest\n- `no`\n";
        assert_eq!(listed(page), ["a/b.rs", "c.rs"].map(str::to_owned).into());
        assert!(listed("- `a`\n").is_empty());
    }
}
