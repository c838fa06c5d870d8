//! Python's `multiprocessing`, and what else there is for Python: a script measures as the meter does, and prints the same line.
//!
//! What Python does not bring along is installed by pip into an environment of its own below `target`, once.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::contestant::{Measured, Stop};
use crate::meter::Meter;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/bench.py");
const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python");
const PACKAGES: &[&str] = &["loky", "faster-fifo"];

pub(crate) fn measure(what: &str, meter: &mut Meter) -> Measured {
    run(Path::new("python3"), what, meter)
}

/// As [`measure`], where it takes one of the packages.
pub(crate) fn measure_package(what: &str, meter: &mut Meter) -> Measured {
    let python = Path::new(ENVIRONMENT).join("bin/python");
    if !Path::new(ENVIRONMENT).join(COMPLETE).exists() {
        return Err(Stop::Skipped("not installed (pip)".to_owned()));
    }
    run(&python, what, meter)
}

fn run(python: &Path, what: &str, meter: &mut Meter) -> Measured {
    let (budget, batch) = (meter.budget.as_secs_f64(), meter.batch.as_secs_f64());
    let most_ops = meter.most_ops.min(1 << 40); // exact in Python's floats
    let mut command = Command::new(python);
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

/// Written when all packages are there.
const COMPLETE: &str = "complete";

/// Installs the packages if they are not there; without Python, pip or a network it leaves it at that.
pub(crate) fn install() {
    let environment = Path::new(ENVIRONMENT);
    if environment.join(COMPLETE).exists() {
        return;
    }
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(environment));
    let pip = environment.join("bin/pip");
    let succeeded =
        |status: io::Result<std::process::ExitStatus>| status.is_ok_and(|status| status.success());
    if succeeded(made)
        && succeeded(quiet(
            Command::new(pip).args(["install", "--timeout", "10", "--retries", "1"]).args(PACKAGES),
        ))
    {
        // What cannot be written is installed again the next time.
        let _ = File::create(environment.join(COMPLETE));
    } else {
        eprintln!("packages for Python not installed: {}", PACKAGES.join(", "));
    }
}
