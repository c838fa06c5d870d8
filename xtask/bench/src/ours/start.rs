//! `Process::spawn`: a function in a fresh process.

use multiprocess::Process;

use crate::contestant::Measured;
use crate::meter::Meter;

pub(crate) fn spawn(meter: &mut Meter) -> Measured {
    meter.measure(|n| {
        for _ in 0..n {
            Process::spawn(|| (), ())?.join()?;
        }
        Ok(())
    })
}
