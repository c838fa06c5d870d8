//! Python's `multiprocessing`: a script measures as the meter does, and prints the same line.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::contestant::{Measured, Stop};
use crate::meter::Meter;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/bench.py");

pub(crate) fn measure(what: &str, meter: &mut Meter) -> Measured {
    let (budget, batch) = (meter.budget.as_secs_f64(), meter.batch.as_secs_f64());
    let most_ops = meter.most_ops.min(1 << 40); // exact in Python's floats
    let mut command = Command::new("python3");
    command.args(["-B", SCRIPT, &std::process::id().to_string(), what]);
    command.args([budget.to_string(), batch.to_string(), most_ops.to_string()]);
    let output = match command.stderr(Stdio::inherit()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Stop::Skipped("not installed (python3)".to_owned()));
        }
        output => output?,
    };
    if !output.status.success() {
        return Err(format!("python3: {}", output.status).into());
    }
    meter.sample = serde_json::from_slice(&output.stdout)?;
    Ok(())
}
