//! A shared library that starts processes, and has functions for those that others start.

use mp_process::{Process, SpawnError};

pub fn double(n: u32) -> u32 {
    2 * n
}

pub fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

fn private(n: u32) -> u32 {
    n + 1
}

/// A process that runs a function which only the library knows.
pub fn start(n: u32) -> Result<Process<u32>, SpawnError> {
    Process::spawn(private, (n,))
}
