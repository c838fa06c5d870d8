//! What the types stand on: state machines on words, without a system call. The mutex is for the other crates of this family, too;
//! nothing here is part of the public interface.

pub(crate) mod done;
pub(crate) mod flag;
pub(crate) mod gate;
pub(crate) mod meeting;
pub(crate) mod owner;
pub(crate) mod permits;
pub(crate) mod shares;
pub(crate) mod sync;
pub(crate) mod table;
pub(crate) mod tickets;
pub(crate) mod turn;

pub use crate::sys::guarded::{Guard, Guarded};
pub use crate::sys::robust::{Acquired, RawLockError, RobustMutex};
