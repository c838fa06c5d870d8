//! The command line.

use std::time::Duration;

use crate::contestant::Failure;
use crate::rows::{ROWS, Row};

pub(crate) const HELP: &str = "\
cargo xtask bench [ROWS..] [--quick] [--list] [--rounds N] [--only WORD] [--write-docs]

  ROWS          numbers or names of rows, as --list shows them; none: all
  --quick       two short rounds: does it work? its figures are not worth citing
  --rounds N    as many rounds (default 9)
  --only WORD   only the contestants whose name contains the word
  --list        the rows and who takes part
  --write-docs  puts the tables into docs/performance.md, and the plot of all streams beside it; wants all rows and contestants";

/// What to do.
#[derive(Debug)]
pub(crate) enum Verb {
    Run(Plan),
    List,
    Help,
    /// Hidden: measure one contestant in this process and print the figure.
    Measure(One),
    /// Hidden: be the second process of a contestant.
    Role {
        name: String,
        argument: String,
    },
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) only: Option<String>,
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) write_docs: bool,
}

impl Plan {
    /// How long one sample measures.
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 300 })
    }
}

/// One contestant of one row.
#[derive(Debug)]
pub(crate) struct One {
    pub(crate) row: &'static Row,
    pub(crate) contestant: String,
    pub(crate) budget: Duration,
}

pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Verb, Failure> {
    let mut plan = Plan { rows: Vec::new(), only: None, quick: false, rounds: 0, write_docs: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--measure" => {
                let (row, contestant, budget) = (value()?, value()?, value()?);
                let budget = Duration::from_millis(budget.parse()?);
                return Ok(Verb::Measure(One { row: row_named(&row)?, contestant, budget }));
            }
            "--role" => return Ok(Verb::Role { name: value()?, argument: value()? }),
            "--list" => return Ok(Verb::List),
            "--help" | "-h" | "help" => return Ok(Verb::Help),
            "--quick" => plan.quick = true,
            "--write-docs" => plan.write_docs = true,
            "--rounds" => plan.rounds = value()?.parse()?,
            "--only" => plan.only = Some(value()?.to_lowercase()),
            _ if arg.starts_with('-') => return Err(format!("no option `{arg}`\n{HELP}").into()),
            _ => plan.rows.push(row_named(&arg)?),
        }
    }
    if plan.write_docs && (plan.only.is_some() || !plan.rows.is_empty()) {
        return Err("--write-docs wants all rows and all contestants".into());
    }
    if plan.rows.is_empty() {
        plan.rows = ROWS.iter().collect();
    }
    if plan.rounds == 0 {
        plan.rounds = if plan.quick { 2 } else { 9 };
    }
    Ok(Verb::Run(plan))
}

/// By number from one, or by name.
fn row_named(word: &str) -> Result<&'static Row, Failure> {
    let by_number = word.parse::<usize>().ok().and_then(|number| ROWS.get(number.checked_sub(1)?));
    let found = by_number.or_else(|| ROWS.iter().find(|row| row.name == word));
    let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("no row `{word}`; there are {}", names()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Verb, Failure> {
        parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn rows_by_number_and_name() {
        let Ok(Verb::Run(plan)) = parsed("2 lock --quick") else { panic!("a run") };
        assert_eq!(plan.rows.iter().map(|row| row.name).collect::<Vec<_>>(), [ROWS[1].name, "lock"]);
        assert!(plan.quick && plan.rounds == 2);
        assert!(parsed("0").is_err() && parsed("99").is_err() && parsed("no-such-row").is_err());
    }

    #[test]
    fn docs_want_all_rows() {
        assert!(parsed("--write-docs lock").is_err());
        assert!(parsed("--write-docs --only ours").is_err());
        assert!(matches!(parsed("--write-docs"), Ok(Verb::Run(plan)) if plan.rows.len() == ROWS.len()));
    }
}
