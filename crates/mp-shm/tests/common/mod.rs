//! What the tests of one crate share.

#![allow(dead_code, reason = "each test binary uses its own part")]

use mp_core::DecodeError;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::os::fd::AsFd;

/// Sends `value` to this process itself, as a message would.
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
pub(crate) fn cross<T: Serialize + 'static, U: DeserializeOwned + 'static>(
    value: &T,
) -> Result<U, DecodeError> {
    let mut scratch = Vec::new();
    let message = mp_core::encode(value, &mut scratch).unwrap();
    let fds = message.handles.shared().iter().map(|fd| fd.as_fd().try_clone_to_owned().unwrap()).collect();
    mp_core::decode(message.encoding, message.bytes.into(), fds)
}

/// A name that no other test has.
pub(crate) fn name(test: &str) -> String {
    format!("mp-test-{}-{test}", std::process::id())
}

pub(crate) fn exists(name: &str) -> bool {
    std::path::Path::new("/dev/shm").join(name).exists()
}

/// While it lives, no other test leaves leftovers or reaps them, in whatever process it runs.
#[expect(clippy::unwrap_used, reason = "a test fails by it")]
pub(crate) fn only_reaper() -> File {
    // What they have in common, whoever built them.
    let file = File::open("/dev/shm").unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}
