//! raw_sync: a mutex in shared memory that a killed holder leaves locked for ever.
#![expect(unsafe_code, reason = "the crate's own constructors are unsafe")]

use std::hint::black_box;

use raw_sync::locks::{LockInit, Mutex};

use crate::contestant::Measured;
use crate::limit::mutex::shared;
use crate::meter::Meter;

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let mut memory = shared(4096)?;
    let memory = memory.as_mut_ptr();
    assert!(Mutex::size_of(Some(memory)) <= 2048, "half the page is the lock's, half the data's");
    // SAFETY: within the page.
    let data = unsafe { memory.add(2048) };
    // SAFETY: both parts are mapped until this function ends, and nobody else has them.
    let (mutex, _) = unsafe { Mutex::new(memory, data) }.map_err(|error| format!("raw_sync: {error}"))?;
    meter.measure(|n| {
        for _ in 0..n {
            black_box(mutex.lock().map_err(|error| format!("raw_sync: {error}"))?);
        }
        Ok(())
    })
}
