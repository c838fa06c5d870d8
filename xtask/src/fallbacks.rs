//! `fallbacks`: the suite once for each fallback that can be forced with `--cfg mp_force_…`.

use crate::command::{record, root};
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome, from_faults};
use crate::source::{Blank, blanked, has_word};
use crate::{suite, workspace};

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let manifest = Manifest::read(&root().join("Cargo.toml"))?;
    let declared = declared(manifest.raw("workspace.lints.rust", "unexpected_cfgs").unwrap_or_default());
    let mut faults = Vec::new();
    for name in declared {
        if !is_used(&name)? {
            println!("{name}: declared, but no source asks for it");
            continue;
        }
        let flags = format!("--cfg {name} {}", suite::STEPS.0);
        let recorded = record(suite::command("--workspace", (&flags, &name), ""), true)?;
        if let Err(failure) = suite::passed(&recorded) {
            faults.push(format!("{name}: {failure}"));
        }
    }
    from_faults(&faults)
}

/// The `mp_force_…` names in the lint's `check-cfg` list.
fn declared(lint: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = lint.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("mp_force_")).map(str::to_owned).collect()
}

fn is_used(name: &str) -> Result<bool, Failure> {
    for path in workspace::files()? {
        if path.starts_with("crates/") && path.ends_with(".rs") {
            let code = blanked(&workspace::text(&path)?, Blank::CommentsAndStrings);
            if has_word(&code, name) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lint_declares_the_fallbacks() {
        let lint = "{ level = \"warn\", check-cfg = ['cfg(loom)', 'cfg(mp_force_a)', 'cfg(mp_force_b)'] }";
        assert_eq!(declared(lint), ["mp_force_a", "mp_force_b"]);
        assert!(declared("\"warn\"").is_empty());
    }
}
