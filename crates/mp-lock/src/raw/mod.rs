//! What the other crates of this family build on. No part of the public interface.

pub use crate::sys::robust::{Acquired, RawLockError, RobustMutex};
