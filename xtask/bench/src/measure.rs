//! One sample, in a process of its own: `--measure ROW CONTESTANT MILLISECONDS` prints it as a line of JSON.

use serde::{Deserialize, Serialize};

use crate::args::One;
use crate::contestant::{Failure, Stop};
use crate::cores;
use crate::meter::{Meter, Sample};
use crate::watchdog;

/// What the line says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Measured(Sample),
    Skipped(String),
}

pub(crate) fn measure(one: &One) -> Result<(), Failure> {
    watchdog::die_with_parent()?;
    cores::pin_first()?;
    let row = one.row;
    let named = row.contestants.iter().find(|contestant| contestant.name == one.contestant);
    let contestant = named.ok_or(format!("no contestant `{}`", one.contestant))?;
    let mut meter = Meter::new(one.budget, row.batch, row.most_ops);
    let said = match (contestant.measure)(&mut meter) {
        Ok(()) => Said::Measured(meter.sample),
        Err(Stop::Skipped(why)) => Said::Skipped(why),
        Err(Stop::Failed(failure)) => return Err(failure),
    };
    println!("{}", serde_json::to_string(&said)?);
    Ok(())
}
