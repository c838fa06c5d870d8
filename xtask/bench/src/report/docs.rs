//! The marked section of `docs/performance.md`, and the plots beside it.

use std::fs;
use std::path::Path;

use crate::contestant::Failure;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/performance.md");
/// What the page shows.
const PLOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/plots");
const START: &str = "<!-- bench:start -->";
const END: &str = "<!-- bench:end -->";

pub(super) fn replace_section(markdown: &str) -> Result<(), Failure> {
    let page = fs::read_to_string(PAGE).map_err(|error| format!("docs/performance.md: {error}"))?;
    let page = replaced(&page, markdown).ok_or(format!("docs/performance.md lacks {START} or {END}"))?;
    fs::write(PAGE, page)?;
    eprintln!("docs/performance.md: tables replaced");
    Ok(())
}

pub(super) fn write_plot(name: &str, svg: &str) -> Result<(), Failure> {
    fs::create_dir_all(PLOTS)?;
    fs::write(Path::new(PLOTS).join(name), svg)?;
    eprintln!("docs/plots/{name}: replaced");
    Ok(())
}

fn replaced(page: &str, markdown: &str) -> Option<String> {
    let (before, rest) = page.split_once(START)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{START}\n\n{markdown}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let page = format!("before\n{START}\nold\n{END}\nafter\n");
        let once = replaced(&page, "new").expect("both marks are there");
        assert_eq!(once, format!("before\n{START}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replaced(&once, "new"), Some(once));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
