//! What comes out: a table on standard output, JSON and plots in `results/`, the table in `docs/performance.md`, and one of the plots beside it.

mod docs;
mod json;
mod plot;
mod sizes;
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
    let sizes = sizes::svg(results);
    if let Some(svg) = &sizes {
        fs::write(folder.join("stream-sizes.svg"), svg)?;
    }
    if write_docs {
        docs::replace_section(&markdown)?;
        if let Some(svg) = &sizes {
            docs::write_plot("stream-sizes.svg", svg)?;
        }
    }
    eprintln!("figures and plots: xtask/bench/results");
    Ok(())
}
