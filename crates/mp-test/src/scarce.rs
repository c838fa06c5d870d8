//! Too little of something, at every place where it can run out.

use crate::Census;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::iter;

/// So many descriptors are enough for a test.
const FEW: u64 = 64;

/// For a process of its own: `operation` runs with room for no further descriptor, then with room for one, and so on until it succeeds.
/// Returns what it said before, and then.
///
/// # Panics
///
/// When a failure leaves a descriptor open.
pub fn short_of_descriptors<R, E>(mut operation: impl FnMut() -> Result<R, E>) -> (Vec<E>, R) {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), maximum: hard }).expect("a lower limit");
    let mut errors = Vec::new();
    loop {
        let before = Census::take().fd_count();
        let mut full: Vec<File> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
        full.truncate(full.len() - errors.len());
        let result = operation();
        drop(full);
        match result {
            Ok(done) => return (errors, done),
            Err(error) => errors.push(error),
        }
        assert_eq!(Census::take().fd_count(), before, "a failure left descriptors");
    }
}

/// For a process of its own: `operation` runs with room for no further mapping, then with ever more room, in steps of `step` bytes, until
/// it succeeds. Returns what it said before, and then.
///
/// # Panics
///
/// When the limit cannot be set.
pub fn short_of_memory<R, E>(step: u64, mut operation: impl FnMut() -> Result<R, E>) -> (Vec<E>, R) {
    let limit = getrlimit(Resource::As);
    let mut errors = Vec::new();
    loop {
        let room = step * errors.len() as u64;
        setrlimit(Resource::As, Rlimit { current: Some(mapped() + room), maximum: limit.maximum })
            .expect("a lower limit");
        let result = operation();
        setrlimit(Resource::As, limit).expect("the limit as it was");
        match result {
            Ok(done) => return (errors, done),
            Err(error) => errors.push(error),
        }
    }
}

/// What this process has mapped, in bytes.
fn mapped() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    pages.expect("statm") * rustix::param::page_size() as u64
}
