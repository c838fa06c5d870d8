//! The tables, in Markdown.

use std::fmt::Write;

use super::units::{ratio, shown, time};
use crate::contestant::Kind;
use crate::rows::{ROWS, Row, Unit};
use crate::run::{Line, Results};

const NONE: &str = "–";

/// What `--list` prints.
pub(crate) fn list() {
    for (index, row) in ROWS.iter().enumerate() {
        println!("{:>2}  {:<20} {}", index + 1, row.name, row.title);
        let names: Vec<String> = row
            .contestants
            .iter()
            .map(|contestant| format!("{} ({})", contestant.name, contestant.kind.word()))
            .collect();
        println!("    {}", names.join(", "));
    }
}

pub(super) fn markdown(results: &Results) -> String {
    let mut out = format!("Taken on {}; {} rounds", results.facts.line(), results.rounds);
    out.push_str(if results.quick { ", quick: not worth citing.\n" } else { ".\n" });
    for (row, lines) in &results.rows {
        table(&mut out, row, lines);
    }
    out.truncate(out.trim_end().len());
    out
}

fn table(out: &mut String, row: &Row, lines: &[Line]) {
    let ours: Vec<&Line> = lines.iter().filter(|line| is_ours(line)).collect();
    let unit = match row.unit {
        Unit::Time => "time of one; less is better",
        Unit::Rate => "a second; more is better",
        Unit::Ideal { .. } => "part of the ideal; more is better",
    };
    let cpu = if lines.iter().any(|line| line.cpu().is_some()) { " CPU of one |" } else { "" };
    let share = lines.iter().any(|line| line.share().is_some());
    let switches = lines.iter().any(|line| line.switches().is_some());
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n### {}\n\n{} Unit: {unit}.\n", row.title, row.what);
    let _ = write!(out, "| contestant | kind | median | best | spread |{cpu} ÷ limit |");
    for our in &ours {
        let _ = write!(out, " ÷ {} |", our.contestant.name);
    }
    if share {
        out.push_str(" share of the slower |");
    }
    if switches {
        out.push_str(" context switches |");
    }
    let _ = write!(
        out,
        "\n| --- | --- | ---: | ---: | ---: |{} ---: |",
        if cpu.is_empty() { "" } else { " ---: |" }
    );
    let _ = writeln!(out, "{}", " ---: |".repeat(ours.len() + usize::from(share) + usize::from(switches)));
    for line in lines {
        let mut cells = cells(row, line, lines, &ours, !cpu.is_empty());
        if share {
            cells.push(line.share().map_or(NONE.to_owned(), |share| format!("{share:.2}")));
        }
        if switches {
            cells.push(line.switches().map_or(NONE.to_owned(), |switches| format!("{switches:.0}")));
        }
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

fn is_ours(line: &Line) -> bool {
    matches!(line.contestant.kind, Kind::Ours { .. })
}

fn cells(row: &Row, line: &Line, lines: &[Line], ours: &[&Line], with_cpu: bool) -> Vec<String> {
    let name = line.contestant.name;
    let mut cells = vec![if is_ours(line) { format!("**{name}**") } else { name.to_owned() }];
    cells.push(line.contestant.kind.word().to_owned());
    let summary = line.summary();
    let figure = summary.map_or(String::new(), |summary| shown(row.unit, summary.median));
    let trouble = line.trouble.as_deref().unwrap_or_default();
    cells.push(
        [figure.as_str(), trouble]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; "),
    );
    cells.push(summary.map_or(NONE.to_owned(), |summary| shown(row.unit, summary.best)));
    cells.push(summary.map_or(NONE.to_owned(), |summary| format!("±{:.0} %", summary.spread * 100.0)));
    if with_cpu {
        cells.push(line.cpu().map_or(NONE.to_owned(), time));
    }
    let beside = |other: Option<&Line>| {
        let other = other.filter(|other| other.contestant.name != name)?;
        Some(ratio(summary?.median / other.summary()?.median))
    };
    cells.push(beside(limit_of(line, lines)).unwrap_or_else(|| NONE.to_owned()));
    cells.extend(ours.iter().map(|our| beside(Some(our)).unwrap_or_else(|| NONE.to_owned())));
    cells
}

/// The limit beside which a contestant stands: its own, or the row's first.
pub(super) fn limit_of<'a>(line: &Line, lines: &'a [Line]) -> Option<&'a Line> {
    lines.iter().find(|other| match line.contestant.kind {
        Kind::Ours { limit } => other.contestant.name == limit,
        _ => other.contestant.kind == Kind::Limit,
    })
}
