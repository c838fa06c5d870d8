//! Run a Rust function in another process and get its result back.

mod builder;
mod child;
mod entry;
mod error;
mod info;
mod launch;
mod process;
mod protocol;
mod registry;
mod remote_error;
mod scope;
mod status;
mod sys;
mod task;

pub use builder::{Builder, StartMethod, Stdio};
pub use entry::init;
#[doc(hidden)]
pub use entry::init_before_main;
pub use error::{JoinError, Panic, SpawnError};
pub use info::{ProcessInfo, active_children, cpu_count, current_process, parent_process};
pub use mp_core::{
    DecodeError, EncodeError, GiveError, Passed, Readable, TakeError, Waitable, give, take, wait,
};
pub use process::{JoinTimeoutError, Process, Running};
pub use remote_error::RemoteError;
pub use scope::{Scope, scope};
pub use status::ExitStatus;
pub use task::Task;

/// What pools of processes build on. No part of the public interface.
#[doc(hidden)]
pub mod routine {
    pub use crate::task::{Call, CallError, Reply, Routine, UnknownRoutine};
}

/// Makes processes work in tests, benches and wherever `main` is not one's own: once in the crate, outside of functions.
///
/// ```
/// # mod tests {
/// mp_process::enable_test_support!();
/// # }
/// ```
///
/// It registers a function that runs before `main` and does what [`init`] does.
#[macro_export]
macro_rules! enable_test_support {
    () => {
        #[allow(unsafe_code, reason = "a constructor can only be named by its section")]
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static TAKE_OVER: extern "C" fn() = {
                extern "C" fn take_over() {
                    $crate::init_before_main();
                }
                take_over
            };
        };
    };
}
