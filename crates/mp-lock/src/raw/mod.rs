//! What the types stand on: state machines on words. The mutex is for the other crates of this family, too; nothing here is
//! part of the public interface.

pub(crate) mod table;
pub(crate) mod turn;

pub use crate::sys::robust::{Acquired, RawLockError, RobustMutex};
