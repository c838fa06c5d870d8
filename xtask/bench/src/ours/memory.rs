//! `Value`, an attached segment, and `Frozen`.

use std::hint::black_box;
use std::os::fd::AsFd;

use multiprocess::pipe::{Connection, pipe};
use multiprocess::shm::{Format, Frozen, Segment};
use multiprocess::{Process, RemoteError, Value};

use crate::contestant::Measured;
use crate::cores;
use crate::meter::Meter;
use crate::rows::frozen::{WORDS, filled, sum};

pub(crate) fn fetch_add(meter: &mut Meter) -> Measured {
    let value = Value::new(0_u64)?;
    meter.measure(|n| {
        for _ in 0..n {
            black_box(value.fetch_add(1));
        }
        Ok(())
    })
}

/// As when a handle has come in a message: it is checked, mapped, looked at, and let go.
pub(crate) fn attach(meter: &mut Meter) -> Measured {
    let format = Format::plain(*b"BNCH", 1);
    let segment = Segment::create(format, 4032)?;
    meter.measure(|n| {
        for _ in 0..n {
            let attached = Segment::open(segment.as_fd().try_clone_to_owned()?, format)?;
            black_box(attached.map().atomic_u64(64).load(std::sync::atomic::Ordering::SeqCst));
        }
        Ok(())
    })
}

pub(crate) fn transfer(meter: &mut Meter) -> Measured {
    let (mut here, there) = pipe()?;
    let process = Process::builder().daemon(true).spawn(serve, (there,))?;
    meter.measure(|n| {
        for _ in 0..n {
            let frozen = Frozen::build(WORDS, filled)?;
            here.send(Some(frozen))?;
            black_box(here.recv::<u64>()?);
        }
        Ok(())
    })?;
    here.send(None::<Frozen<u64>>)?;
    Ok(process.join()??)
}

fn serve(mut end: Connection) -> Result<(), RemoteError> {
    cores::pin_second().map_err(std::io::Error::other)?;
    while let Some(frozen) = end.recv::<Option<Frozen<u64>>>()? {
        end.send(sum(&frozen))?;
    }
    Ok(())
}
