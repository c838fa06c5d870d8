//! The same for programs: `results/latest.json`.

use serde::Serialize;

use super::table::limit_of;
use crate::facts::Facts;
use crate::rows::Unit;
use crate::run::{Line, Results};
use crate::stats::Summary;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Facts,
    rounds: usize,
    quick: bool,
    rows: Vec<RowFigures>,
}

#[derive(Serialize)]
struct RowFigures {
    name: &'static str,
    title: &'static str,
    /// How the table shows them; here all figures are nanoseconds of one operation.
    shown_as: &'static str,
    contestants: Vec<Figures>,
}

#[derive(Serialize)]
struct Figures {
    name: &'static str,
    kind: &'static str,
    nanos: Option<Summary>,
    cpu_nanos: Option<f64>,
    /// Of the medians.
    times_limit: Option<f64>,
    /// Where two fought: what part of all turns the slower one had.
    share_of_the_slower: Option<f64>,
    /// Of those that were to be idle, in a sample, at the median.
    context_switches: Option<f64>,
    trouble: Option<String>,
}

pub(super) fn of(results: &Results) -> serde_json::Result<String> {
    let rows = results.rows.iter().map(|(row, lines)| RowFigures {
        name: row.name,
        title: row.title,
        shown_as: match row.unit {
            Unit::Time => "time",
            Unit::Rate => "rate",
            Unit::Ideal { .. } => "part of the ideal",
        },
        contestants: lines.iter().map(|line| figures(line, lines)).collect(),
    });
    let Results { facts, rounds, quick, .. } = results;
    let document = Document { machine: facts, rounds: *rounds, quick: *quick, rows: rows.collect() };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn figures(line: &Line, lines: &[Line]) -> Figures {
    let nanos = line.summary();
    let limit = limit_of(line, lines).and_then(Line::summary);
    Figures {
        name: line.contestant.name,
        kind: line.contestant.kind.word(),
        nanos,
        cpu_nanos: line.cpu(),
        times_limit: nanos.zip(limit).map(|(own, limit)| own.median / limit.median),
        share_of_the_slower: line.share(),
        context_switches: line.switches(),
        trouble: line.trouble.clone(),
    }
}
