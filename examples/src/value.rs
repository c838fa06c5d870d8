//! A number in shared memory: what the child sets, the parent sees.

use crate::Told;
use multiprocess::{Process, Value};
use std::sync::atomic::{AtomicI32, Ordering};

static ORDINARY: AtomicI32 = AtomicI32::new(0);

#[expect(clippy::approx_constant, reason = "the number of the seed")]
fn task(n: Value<f64>) {
    n.set(3.1415);
    // An ordinary variable is this process's own.
    ORDINARY.store(1, Ordering::Relaxed);
}

/// The shared value, and an ordinary variable after the child has changed "it".
///
/// # Errors
///
/// When a process cannot be started.
pub fn run() -> Told {
    let value = Value::new(0.0)?;
    Process::spawn(task, (value.clone(),))?.join()?;
    println!("{}", value.get());
    let ordinary = ORDINARY.load(Ordering::Relaxed);
    println!("an ordinary variable that the child changed is still {ordinary} here");
    Ok(vec![value.get().to_string(), ordinary.to_string()])
}
