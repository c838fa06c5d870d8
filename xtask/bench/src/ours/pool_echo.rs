//! `Pool` with a mebibyte there and back.

use std::hint::black_box;

use multiprocess::shm::{Array, Frozen};
use multiprocess::{Pool, cpu_count};

use crate::contestant::Measured;
use crate::meter::Meter;
use crate::rows::pool_echo::SIZE;

/// One buffer for all tasks, as many copies as the limit makes.
pub(crate) fn shared(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    let (from, mut to) = (vec![1_u8; SIZE], vec![0_u8; SIZE]);
    let buffer = Array::<u8>::new(SIZE)?;
    meter.measure(|n| {
        for _ in 0..n {
            buffer.copy_in(0, black_box(&from));
            let length = pool.apply(|bytes: Array<u8>| bytes.len(), (buffer.clone(),))?;
            buffer.copy_out(0, &mut to[..length]);
            black_box(&to);
        }
        Ok(())
    })
}

/// Made anew for each task, and copied out of what comes back: as many copies as the limit makes.
pub(crate) fn frozen(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    let (from, mut to) = (vec![1_u8; SIZE], vec![0_u8; SIZE]);
    meter.measure(|n| {
        for _ in 0..n {
            let there = Frozen::from_slice(black_box(&from))?;
            let back = pool.apply(|bytes: Frozen<u8>| bytes, (there,))?;
            to.copy_from_slice(&back);
            black_box(&to);
        }
        Ok(())
    })
}

pub(crate) fn owned(meter: &mut Meter) -> Measured {
    let pool = Pool::new(cpu_count())?;
    let mut bytes = vec![1_u8; SIZE];
    meter.measure(|n| {
        for _ in 0..n {
            bytes = pool.apply(|bytes: Vec<u8>| bytes, (std::mem::take(&mut bytes),))?;
        }
        if bytes.len() == SIZE { Ok(()) } else { Err("a wrong result".into()) }
    })
}
