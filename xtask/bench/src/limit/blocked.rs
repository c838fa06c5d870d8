//! Processes that do nothing but wait for the end of their input: what it takes to kill one, and that nothing happens meanwhile.

use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::thread::{self, available_parallelism};

use crate::contestant::{Failure, Measured};
use crate::meter::{Meter, clock};
use crate::rows::pool_timeout::TIMEOUT;
use crate::{idle, role};

fn start() -> Result<Child, Failure> {
    Ok(role::command("blocked", "", Stdio::piped())?.spawn()?)
}

pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

pub(crate) fn idle(meter: &mut Meter) -> Measured {
    let children = (0..available_parallelism()?.get()).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    idle::measure(meter)?;
    for mut child in children {
        drop(child.stdin.take());
        role::finish(child)?;
    }
    Ok(())
}

pub(crate) fn kill(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let mut child = start()?;
        let killed = clock();
        child.kill()?;
        child.wait()?;
        Ok(clock() - killed)
    })
}

pub(crate) fn timeout(meter: &mut Meter) -> Measured {
    meter.measure_each(|| -> Result<u64, Failure> {
        let mut child = start()?;
        let begun = clock();
        thread::sleep(TIMEOUT);
        child.kill()?;
        child.wait()?;
        Ok((clock() - begun).saturating_sub(TIMEOUT.as_nanos() as u64))
    })
}
