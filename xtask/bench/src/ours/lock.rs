//! `Lock`: what it costs that a killed holder hangs nobody.

use std::hint::black_box;

use multiprocess::Lock;

use crate::contestant::Measured;
use crate::meter::Meter;

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let lock = Lock::new()?;
    meter.measure(|n| {
        for _ in 0..n {
            drop(black_box(lock.acquire().map_err(|error| error.into_owned())?));
        }
        Ok(())
    })
}
