//! A message copied once, which is what each side of a pipe does at the same time; and a value encoded and decoded by postcard alone.

use std::hint::black_box;
use std::thread;

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::meter::Meter;

/// What the first byte, or the number, of a message says.
pub(crate) const PLAIN: u8 = 1;
pub(crate) const ANSWER: u8 = 2;
pub(crate) const STOP: u8 = 3;

/// The value of the row `typed`.
pub(crate) type Value = (u64, String, [f64; 16]);

pub(crate) fn value(mark: u8) -> Value {
    (mark.into(), "a string of some length".to_owned(), [1.25; 16])
}

/// Through memory that holds a few messages, as a pipe's does.
pub(crate) fn memcpy<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (from, mut to) = (vec![1_u8; SIZE], vec![0_u8; 4 * SIZE]);
    let mut at = 0;
    meter.measure(|n| {
        for _ in 0..n {
            to[at..at + SIZE].copy_from_slice(black_box(&from));
            black_box(&to);
            at = (at + SIZE) % to.len();
        }
        Ok(())
    })
}

/// There and back, through memory that holds one.
pub(crate) fn two_memcpys<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let (from, mut there, mut back) = (vec![1_u8; SIZE], vec![0_u8; SIZE], vec![0_u8; SIZE]);
    meter.measure(|n| {
        for _ in 0..n {
            there.copy_from_slice(black_box(&from));
            back.copy_from_slice(black_box(&there));
            black_box(&back);
        }
        Ok(())
    })
}

pub(crate) fn postcard(meter: &mut Meter) -> Measured {
    meter.measure(|n| Ok(there_and_back(n)?))
}

/// On both cores at once, as those do who send and take.
pub(crate) fn postcard_twice(meter: &mut Meter) -> Measured {
    meter.measure(|n| {
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                cores::pin_second()?;
                there_and_back(n / 2)
            });
            there_and_back(n - n / 2)?;
            Ok(other.join().map_err(|_| "the other thread panicked")??)
        })
    })
}

fn there_and_back(n: u64) -> Result<(), Failure> {
    let (value, mut buffer) = (value(PLAIN), Vec::new());
    for _ in 0..n {
        buffer.clear();
        buffer = postcard::to_extend(black_box(&value), std::mem::take(&mut buffer))?;
        black_box(postcard::from_bytes::<Value>(black_box(&buffer))?);
    }
    Ok(())
}
