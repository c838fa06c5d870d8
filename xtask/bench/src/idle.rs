//! What processes do that have nothing to do: how often they were put on a core, and what time they had there.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::contestant::{Failure, Measured};
use crate::cpu;
use crate::meter::Meter;

/// How long it is looked at; the script in Python has the same.
const IDLE: Duration = Duration::from_secs(2);
/// How long after the last work.
const SETTLE: Duration = Duration::from_millis(500);

/// All threads of this process and of all below it count, but for the one that looks.
pub(crate) fn measure(meter: &mut Meter) -> Measured {
    thread::sleep(SETTLE);
    let (cpu, switches) = (used()?, switches()?);
    thread::sleep(IDLE);
    let after = self::switches()?;
    meter.sample.batches.push(used()?.saturating_sub(cpu).max(1) as f64);
    meter.sample.switches = Some(after - switches);
    meter.sample.ops = 1;
    Ok(())
}

fn used() -> Result<u64, Failure> {
    Ok(cpu::used().ok_or("the system does not list children")?)
}

fn switches() -> Result<u64, Failure> {
    let mut processes = cpu::children_of("self").ok_or("the system does not list children")?;
    let mut total = of_process("self", Some(std::process::id()))?;
    while let Some(pid) = processes.pop() {
        // It may have ended meanwhile.
        total += of_process(&pid.to_string(), None).unwrap_or(0);
        processes.extend(cpu::children_of(&pid.to_string()).unwrap_or_default());
    }
    Ok(total)
}

/// Of all threads but the one that looks.
fn of_process(pid: &str, but: Option<u32>) -> Result<u64, Failure> {
    let mut total = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        if but.is_some_and(|but| thread.file_name().to_str() == Some(&but.to_string())) {
            continue;
        }
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        total += counts.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(total)
}
