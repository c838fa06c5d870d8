//! The rounds: every contestant of every row once a round, the order turned by one each time.

use std::io::{self, IsTerminal, Write};

use crate::args::Plan;
use crate::contestant::{Contestant, Failure};
use crate::facts::Facts;
use crate::measure::Said;
use crate::meter::Sample;
use crate::rows::Row;
use crate::stats::Summary;
use crate::watchdog::{self, Ended};
use crate::{peers, report};

/// All that was found.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) facts: Facts,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) rows: Vec<(&'static Row, Vec<Line>)>,
}

/// One contestant of a row.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) contestant: &'static Contestant,
    samples: Vec<Sample>,
    /// Why it was not measured (again).
    pub(crate) trouble: Option<String>,
}

impl Line {
    pub(crate) fn summary(&self) -> Option<Summary> {
        let batches: Vec<f64> = self.samples.iter().flat_map(|sample| sample.batches.clone()).collect();
        Summary::of(&batches)
    }

    /// Nanoseconds of CPU for one operation.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let ops: u64 = self.samples.iter().map(|sample| sample.ops).sum();
        let cpu: u64 = self.samples.iter().map(|sample| sample.cpu).sum::<Option<u64>>()?;
        (ops > 0).then(|| cpu as f64 / ops as f64)
    }

    /// What part of all turns the slower side had, at the median of the samples.
    pub(crate) fn share(&self) -> Option<f64> {
        let shares: Vec<f64> = self.samples.iter().filter_map(|sample| sample.share).collect();
        Summary::of(&shares).map(|summary| summary.median)
    }

    /// Context switches in a sample, at the median.
    pub(crate) fn switches(&self) -> Option<f64> {
        let switches: Vec<f64> =
            self.samples.iter().filter_map(|sample| Some(sample.switches? as f64)).collect();
        Summary::of(&switches).map(|summary| summary.median)
    }

    fn take_part(&mut self, row: &Row, plan: &Plan) -> Result<(), Failure> {
        if self.trouble.is_some() {
            return Ok(());
        }
        match watchdog::sample(row, self.contestant, plan)? {
            Ended::Said(Said::Measured(sample)) => self.samples.push(sample),
            Ended::Said(Said::Skipped(why)) => self.trouble = Some(format!("skipped: {why}")),
            Ended::Hung(limit) => self.trouble = Some(format!("hung: ended after {} s", limit.as_secs())),
            Ended::Failed(why) => self.trouble = Some(format!("failed: {why}")),
        }
        Ok(())
    }
}

pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    let facts = Facts::gather();
    eprintln!("{}", facts.line());
    peers::python::install();
    let rows = plan.rows.iter().map(|&row| (row, lines(row, plan.only.as_deref())));
    let rows = rows.filter(|(_, lines)| !lines.is_empty()).collect();
    let mut results = Results { facts, rounds: plan.rounds, quick: plan.quick, rows };
    for round in 0..plan.rounds {
        for (row, lines) in &mut results.rows {
            let count = lines.len();
            for turn in 0..count {
                let line = &mut lines[(turn + round) % count];
                progress(&format!(
                    "round {}/{}: {}, {}",
                    round + 1,
                    plan.rounds,
                    row.name,
                    line.contestant.name
                ));
                line.take_part(row, plan)?;
            }
        }
    }
    progress("");
    report::write(&results, plan.write_docs)
}

fn lines(row: &'static Row, only: Option<&str>) -> Vec<Line> {
    let wanted = |contestant: &&Contestant| {
        only.is_none_or(|word| {
            contestant.name.to_lowercase().contains(word) || contestant.kind.word().to_lowercase() == word
        })
    };
    let line = |contestant| Line { contestant, samples: Vec::new(), trouble: None };
    row.contestants.iter().filter(wanted).map(line).collect()
}

/// One line that is written over, for who watches.
fn progress(line: &str) {
    let mut err = io::stderr();
    if err.is_terminal() {
        // Nobody misses a line of progress that cannot be written.
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    }
}
