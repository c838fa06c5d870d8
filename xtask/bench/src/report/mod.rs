//! What comes out: a table on standard output, JSON and plots in `results/`, the table in `docs/performance.md`.

mod docs;
mod json;
mod plot;
pub(crate) mod table;
mod units;

use std::fs;
use std::path::Path;

use crate::contestant::Failure;
use crate::run::Results;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");

pub(crate) fn write(results: &Results, write_docs: bool) -> Result<(), Failure> {
    let markdown = table::markdown(results);
    println!("{markdown}");
    let folder = Path::new(RESULTS);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("latest.json"), json::of(results)?)?;
    for (row, lines) in &results.rows {
        fs::write(folder.join(format!("{}.svg", row.name)), plot::svg(row, lines))?;
    }
    if write_docs {
        docs::replace_section(&markdown)?;
    }
    eprintln!("figures and plots: xtask/bench/results");
    Ok(())
}
