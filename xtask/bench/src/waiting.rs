//! One side waits for a second, until another process wakes it: what processor's time that took.
#![expect(unsafe_code, reason = "getrusage is not in rustix")]

use std::mem::MaybeUninit;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::meter::Meter;

const WAIT: Duration = Duration::from_secs(1);

/// The waiting side; all threads of this process count, and nothing of the other.
pub(crate) fn measure(
    meter: &mut Meter,
    arena: &Arena,
    wait: impl FnOnce() -> Result<(), Failure>,
) -> Measured {
    arena.await_ready();
    let (cpu, switches) = (own_cpu(), own_switches());
    wait()?;
    meter.sample.batches.push((own_cpu() - cpu).as_nanos() as f64);
    meter.sample.switches = Some(own_switches() - switches);
    meter.sample.ops = 1;
    Ok(())
}

/// The other side.
pub(crate) fn serve(arena: &Arena, wake: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    cores::pin_second()?;
    arena.ready();
    thread::sleep(WAIT);
    wake()
}

fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn own_switches() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a live place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: all its fields are integers, and all bytes were written: zeroes above, or the answer.
    let usage = unsafe { usage.assume_init() };
    (usage.ru_nvcsw + usage.ru_nivcsw) as u64
}
