//! A pool of worker processes that a crashing, hanging or leaking task cannot break.

#![forbid(unsafe_code)]

mod async_result;
mod builder;
mod control;
mod error;
mod inbox;
mod job;
mod line;
mod map;
mod owner;
mod pool;
mod seat;
mod stderr;
mod worker;

pub use async_result::AsyncResult;
pub use builder::Builder;
pub use error::{Cause, PoolError, TaskError};
pub use map::Imap;
#[doc(hidden)]
pub use mp_process::init_before_main;
pub use mp_process::{
    DecodeError, EncodeError, ExitStatus, Panic, RemoteError, SpawnError, Task, cpu_count,
    enable_test_support, init,
};
pub use pool::{NotClosed, Pool, TaskOptions};
