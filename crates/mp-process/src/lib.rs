//! Run a Rust function in another process and get its result back.
//!
//! [`std::process::Command`] starts a *program*: it takes strings and gives an exit code, and everything else (which
//! function shall run, its arguments, its result, its panic, who ends it when this process is killed) is left to write. A
//! thread runs a function, but shares one memory: one that crashes, leaks or must be stopped takes all of them along. A
//! [`Process`] runs a function as a thread does, and dies alone. To run other programs stay with `Command`.
//!
//! ```standalone_crate
//! use mp_process::Process;
//!
//! fn example_function(example_parameter: String) {
//!     println!("the child starts");
//!     println!("{example_parameter}");
//!     println!("the child ends");
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     mp_process::init();
//!     println!("the parent starts");
//!     let process = Process::spawn(example_function, ("example_parameter".to_owned(),))?;
//!     process.join()?;
//!     println!("the parent ends");
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//!
//! - **A fresh process.** The child runs this very program again, and [`init`] takes it over there. Nothing is inherited but the
//!   environment, the working directory, the standard output and error; so it is safe in a program with threads.
//! - **Start methods.** [`StartMethod::ForkServer`] gives the same several times faster, from a fork of a process with one thread that is
//!   made for it; [`Builder::fork`] forks this process, with closures that capture, and is unsafe. See [`StartMethod`].
//! - **A function** is a `fn` or a closure without captures. It travels as its place in the program, never as code.
//! - **Arguments** are a tuple of up to eight values that serde carries, and handles: [`Passed`] files and sockets, and every lock, queue,
//!   pipe and shared memory of the sister crates, which is the same one there.
//! - **The result** travels back to [`join`](Process::join). A returned `Err` is a result like any other; [`RemoteError`] carries errors that
//!   serde does not. What has no result is a [`JoinError`]: a panic with its message and place, an exit code, a signal.
//! - **The handle.** [`join`](Process::join) blocks, [`join_timeout`](Process::join_timeout) gives the handle back,
//!   [`try_wait`](Process::try_wait) looks, and with [`wait`](wait()) or its descriptor many are waited for at once. Dropped, the
//!   process runs on and is reaped.
//! - **A daemon** ends when this process ends, in whatever way. Any other process is joined at this process's normal end.
//!
//! # Options, and Python's keyword arguments
//!
//! `name`, `daemon`, the environment, the standard streams and what the kernel keeps about a process (working directory, umask,
//! nice, processors, [limits](Builder::limit)) are options of the [`builder`](Process::builder). The keyword arguments of a function are a struct with
//! [`Default`], as its last argument:
//!
//! ```standalone_crate
//! use mp_process::Process;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Options {
//!     greeting: String,
//!     times: usize,
//! }
//!
//! impl Default for Options {
//!     fn default() -> Options {
//!         Options { greeting: "hello".to_owned(), times: 1 }
//!     }
//! }
//!
//! fn greet(whom: String, options: Options) -> String {
//!     format!("{} {whom}", options.greeting).repeat(options.times)
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     mp_process::init();
//!     // Process(target=greet, args=('you',), kwargs={'times': 2}, name='greeter')
//!     let options = Options { times: 2, ..Default::default() };
//!     let process = Process::builder().name("greeter").spawn(greet, ("you".to_owned(), options))?;
//!     assert_eq!(process.name(), "greeter");
//!     assert_eq!(process.join()?, "hello youhello you");
//!     Ok(())
//! }
//! ```
//!
//! # What happens when a process dies
//!
//! | killed | what the others get |
//! | --- | --- |
//! | the child, before `init()` or before it has its arguments | [`spawn`](Process::spawn) gives [`SpawnError::Died`] with the exit status |
//! | the child, while its function runs | [`join`](Process::join) gives [`JoinError::Signal`] |
//! | the child, after it has sent its result | [`join`](Process::join) gives the result; the status tells of the signal |
//! | the child is stopped before `init()` | [`SpawnError::TimedOut`] after the [time for the start](Builder::handshake_timeout) |
//! | this process, during a start | the child ends before its function runs, or runs as if started |
//! | this process, afterwards | a daemon ends at once; any other lives on |
//! | the fork server | nothing: its children live on, and the next start begins another |
//! | the thread that started the child | nothing: the child is the process's, not the thread's |
//!
//! # Gotchas
//!
//! - **`init()` is the first line of `main`.** What stands before it runs in every child as well. Without it no process starts:
//!   [`SpawnError::NotInitialized`] says so, in the child too, so there is never a chain of processes.
//! - **An async runtime is built after `init()`**: `main` is an ordinary function that calls `init()`, then builds the runtime.
//!   `#[tokio::main]` does it the other way round, and every start is then an error that says so.
//! - **A fork server is as old as its start**: it runs `main` up to `init()` once. What this process has at the moment of a start, its
//!   environment, directory, limits and streams, is handed on; signals that it ignores by then are not.
//! - **Arguments of the command line** are the same in the child, and its `main` comes up to `init()` with them.
//! - **Descriptors without CLOEXEC** are not passed on: the child closes what it finds open above the standard streams. What it shall have
//!   is an argument: [`Passed`].
//! - **Statics are not shared.** A static that the child changes is unchanged here, and what `main` set here is not set there.
//! - **A plain `fork`** (by another library, without exec) copies the lifelines of daemons: they end once the copy has ended too.
//! - **A piped standard output that nobody reads** fills up, and the child blocks. [`join`](Process::join) reads and forgets what comes
//!   through pipes that were not taken; those that you took are yours to read, before you wait.
//!   [`Stdio::Tail`] never blocks the child, keeps the last bytes, and shows them in the error of a crash.
//! - **A signal that is blocked here** is not blocked there: a process starts with none blocked, whichever thread starts it, so that
//!   [`terminate`](Process::terminate) ends it. One that is ignored here is ignored there.
//! - **An unfinished line** on standard output is not flushed by a start (a thread that keeps the stream locked would hang it), so the
//!   child's output may come before it.
//! - **[`terminate`](Process::terminate) ends the child in the middle of whatever it does**: no destructor runs, a file may be half
//!   written. It does not end the child's own children, unless they are daemons.
//! - **[`exit`](std::process::exit) in the child** ends it without a result: [`JoinError::Exit`].
//! - **A process that forgets a child cannot end before it**: at its normal end it waits for every child that is neither a daemon nor
//!   [detached](Process::detach).
//!
//! # Tests
//!
//! In tests and benches `main` is not one's own: [`enable_test_support!`] once in the crate does what `init()` does. Doctests that
//! start processes have a `main` with `init()` and are marked `standalone_crate`.
//!
//! # Platforms
//!
//! Linux 5.4 or later. Rust 1.88 (MSRV).
//!
//! # Features
//!
//! - `async`: `process.await` and `wait_async`, under any executor.
//! - `log`: `Builder::forward_log` brings the records of a child's log to this process's logger.
//!
//! None by default.
//!
//! # Trust and safety
//!
//! A function is looked for only in an image with the same build id, or the same text; another build is refused, never
//! jumped into. Parent and child trust each other: they are the same program.

mod builder;
mod child;
mod crash;
mod entry;
mod error;
mod exec;
mod forkserver;
#[cfg(feature = "async")]
mod future;
mod info;
mod inherited;
mod launch;
#[cfg(feature = "log")]
mod log_line;
mod process;
mod protocol;
mod reader;
mod registry;
mod remote_error;
mod scope;
mod settings;
mod standing;
mod start_method;
mod status;
mod streams;
mod sys;
mod tail;
mod task;
mod zygote;

pub use builder::Builder;
#[doc(hidden)]
pub use entry::init_before_main;
pub use entry::{init, init_beside_threads};
pub use error::{JoinError, LastWords, Panic, SpawnError};
pub use forkserver::ForkServer;
#[cfg(feature = "async")]
pub use future::Join;
pub use info::{ProcessInfo, active_children, cpu_count, current_process, parent_process};
pub use mp_core::{
    DecodeError, EncodeError, GiveError, Passed, Readable, TakeError, Waitable, give, take, wait,
};
pub use process::{JoinTimeoutError, Process, Running};
pub use remote_error::RemoteError;
pub use scope::{Scope, scope};
pub use settings::{Limit, Resource};
pub use start_method::{Fork, StartMethod, set_start_method, start_method};
pub use status::ExitStatus;
pub use streams::Stdio;
pub use task::Task;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What pools of processes build on. No part of the public interface.
#[doc(hidden)]
pub mod routine {
    pub use crate::entry::leave_without_hooks;
    pub use crate::task::{Call, CallError, Drive, DrivenRoutine, Driver, Reply, Routine, UnknownRoutine};
}

/// Where a process was when it crashed, for pools of processes: `watch` and `WORDS` are no part of the public interface.
#[doc(hidden)]
pub mod backtrace {
    pub use crate::crash::{Crash, Frame, Log, WORDS, watch};
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
