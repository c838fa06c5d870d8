//! A pool of worker processes that a crashing, hanging or leaking task cannot break.
//!
//! The standard library has threads, and crates over them (`rayon`) have pools: for work that is safe Rust and shares one memory stay
//! with these; they start faster and copy nothing. But a thread cannot be killed, and one that crashes takes the program along. Use a [`Pool`] of
//! processes when tasks may crash, hang, leak or exhaust memory (native parsers, plugins, input from strangers), or call code that is not
//! thread-safe.
//!
//! ```standalone_crate
//! use mp_pool::Pool;
//! use std::{thread, time::Duration};
//!
//! fn example_function(name: u32) {
//!     println!("child process {name} starts");
//!     thread::sleep(Duration::from_millis(10 * u64::from(name % 3 + 1)));
//!     println!("child process {name} ends");
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     mp_pool::init();
//!     println!("parent process starts");
//!     let pool = Pool::new(16)?; // 16 processes; without a number, `Pool::builder().build()`: one a processor
//!     for i in 0..32 {
//!         pool.apply_async(example_function, (i,));
//!     }
//!     pool.close();
//!     pool.join()?; // without `close` or `terminate` before: an error that says so, not a deadlock
//!     println!("parent process ends");
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//!
//! - **A task** is a function and its arguments, as of a process: a `fn` or a closure without captures, up to eight values that serde
//!   carries, and handles (files, pipes, locks, queues, shared memory). What it returns travels back.
//! - **Asking for one**: [`apply`](Pool::apply) waits for the result, [`apply_async`](Pool::apply_async) gives an [`AsyncResult`] (which
//!   is a future, too), [`apply_async_with`](Pool::apply_async_with) calls back, [`task`](Pool::task) takes options: time-outs, deadline,
//!   tries, priority, key.
//! - **Asking for many**: [`map`](Pool::map) gives all results or the first error, [`try_map`](Pool::try_map) a result for each,
//!   [`starmap`](Pool::starmap) takes tuples. [`imap`](Pool::imap) and [`imap_unordered`](Pool::imap_unordered) are lazy and a few items
//!   ahead, so an endless input runs in flat memory.
//! - **A worker** is a daemon process with a line of its own to the pool. No lock is shared with or between workers, so a worker that is
//!   killed at any instruction stops nobody.
//! - **Seeing it**: [`stats`](Pool::stats), a [trace file](Builder::trace_file), events, progress bars; what [`join`](Pool::join) returns.
//! - **Ahead.** Some tasks wait at each worker, 16 to 48. As long as one has not started it can be taken back: for a worker that is idle, or
//!   when its worker dies. One that has started is never run again, unless it has tries.
//! - **The end**: [`close`](Pool::close) and [`join`](Pool::join) wait for what was submitted, [`terminate`](Pool::terminate) and dropping the
//!   pool kill. Every task that was submitted ends exactly once.
//!
//! # What happens to a task
//!
//! | the task | its result |
//! | --- | --- |
//! | returns, an `Err` too | what it returned |
//! | panics | [`TaskError::Panicked`] with message, place and backtrace; the worker goes on |
//! | exits, with whatever code | [`TaskError::WorkerDied`] with [`Cause::Exit`] |
//! | aborts, crashes | [`TaskError::WorkerDied`] with [`Cause::Signal`], what it last wrote to standard error, and [where it was](Report::backtrace) |
//! | overflows its stack | as above, with [`Cause::StackOverflow`] |
//! | is killed | as above, without the place |
//! | allocates past the [limit](Builder::memory_limit) | [`TaskError::WorkerDied`] with [`Cause::Memory`] |
//! | runs past its [time-out](TaskOptions::timeout) | [`TaskError::TimedOut`], once the worker is dead |
//! | has not started within its [queue time-out](TaskOptions::queue_timeout) | [`TaskError::QueueTimedOut`] |
//! | is not done by its [deadline](TaskOptions::deadline) | [`TaskError::DeadlinePassed`] |
//! | is [cancelled](AsyncResult::cancel) | [`TaskError::Cancelled`], once it has stopped |
//! | has [tries](TaskOptions::retry) and fails in each | [`TaskError::Poison`] with all attempts |
//! | has not started when the pool is terminated | [`TaskError::Cancelled`] |
//! | waits at a worker that is stopped (SIGSTOP) | its result: another worker runs it, after 2 to 4 s |
//! | is stopped while it runs | waits until it goes on, its time-out, or its deadline |
//! | closes descriptors that are the worker's | [`TaskError::WorkerDied`] with [`Reason::LineClosed`], unless it returns at once |
//! | makes a copy of the worker by `fork` | its own; the copy ends with a message when it comes back from the task |
//! | takes or returns what serde does not carry | [`TaskError::Encode`], [`Arguments`](TaskError::Arguments), [`Unencodable`](TaskError::Unencodable), [`Undecodable`](TaskError::Undecodable) |
//!
//! # What happens when a process dies
//!
//! | killed | what the others get |
//! | --- | --- |
//! | a worker, before it has claimed a task (also: while idle) | nothing: the task runs in another worker |
//! | a worker, from the claim until the result is sent | that task, or item of a `map`, gets [`TaskError::WorkerDied`]; all else runs elsewhere |
//! | a worker, after the result is sent | the result |
//! | a worker, before it is ready | another is started, after a pause; when none gets ready after some tries: [`TaskError::Broken`] |
//! | this process | the workers end at once, and with them their daemons |
//!
//! # Gotchas
//!
//! - **[`init`] is the first line of `main`**; in tests and benches, where `main` is not one's own, [`enable_test_support!`] once in the
//!   crate does it. Doctests that make pools have a `main` and are marked `standalone_crate`.
//! - **Workers share no variables** with this process or each other. A static that a task changes stays changed in that one worker.
//! - **A time-out counts from the start of the task**, not from its submission, and kills in the middle of whatever the task does: SIGTERM, and
//!   SIGKILL after the [grace](Builder::grace). In a `map` it is for each item.
//! - **The time-out does not end what the task itself has started**: its own child processes live on unless they are daemons.
//! - **An argument that moves** (an end of a pipe) has left this process once the task is at a worker. If it cannot be decoded there, it is closed.
//! - **A task that waits** takes at most 700 bytes here beside its arguments, the handle of its result included, and no descriptor.
//! - **Ctrl-C at a terminal** goes to all processes of the program. Workers live on; this process ends, and they with it, unless it handles
//!   the signal or the pool [does](Builder::ctrl_c).
//! - **A waker must not block**: it runs in whoever settles the result, and others' results wait meanwhile. It may use the pool, drop it, or
//!   panic.
//! - **Results wait in this process** until they are asked for: for very many use [`imap_unordered`](Pool::imap_unordered).
//! - **A `Vec<u8>` among several arguments** is encoded byte by byte; large ones are faster as text, as shared memory, or in a file.
//! - **Standard error** of a worker is a pipe to this process, which passes it on and keeps the end for the report; it is no terminal there.
//!   Standard output is this process's own.
//! - **Handlers for faults** (SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS) are set in each worker before its initializer, for the
//!   backtrace. They hand on to what was there before; one that a task sets replaces them.
//! - **A memory limit is for private memory** (`RLIMIT_DATA`), and [`Cause::Memory`] is read from the last words of the worker: a task that
//!   closes its standard error dies of a plain signal.
//! - **A callback that blocks** delays the other callbacks, and [`join`](Pool::join) and drop wait for it.
//! - **Tasks that wait for tasks of the same pool** can wait for ever once they fill all workers. A pool inside of a task is another pool.
//!
//! # Platforms
//!
//! Linux 5.4 or later. Rust 1.88 (MSRV).
//!
//! # Features
//!
//! None by default. `indicatif`: progress bars for maps and streams. `log`, `tracing`: events of the pool, told from a thread of their own.
//!
//! # Trust and safety
//!
//! There is no unsafe code in this crate. Pool and workers are the same program and trust each other; a worker whose line makes no sense is
//! killed.

#![forbid(unsafe_code)]

mod async_result;
mod attend;
mod book;
mod builder;
mod callbacks;
mod completed;
mod context;
mod control;
mod error;
mod gather;
mod imap;
mod inbox;
mod job;
mod keeper;
mod line;
mod map;
mod observe;
mod output;
mod owner;
mod pack;
mod packs;
mod pool;
mod posts;
mod queue;
mod recipe;
mod retry;
mod room;
mod seat;
mod stats;
mod task;
mod terms;
mod trace;
mod wakers;
mod worker;

pub use async_result::AsyncResult;
pub use builder::Builder;
pub use completed::{AsCompleted, as_completed};
pub use context::{attempt, cancelled, set_state, with_state, worker_index};
pub use error::{Cause, PoolError, Reason, Report, TaskError};
pub use imap::{Imap, NotYet};
pub use mp_process::backtrace::{Crash, Frame};
#[doc(hidden)]
pub use mp_process::init_before_main;
pub use mp_process::{
    DecodeError, EncodeError, ExitStatus, ForkServer, Limit, Panic, RemoteError, Resource, SpawnError,
    StartMethod, Task, cpu_count, enable_test_support, init,
};
pub use pool::{NotClosed, Pool, Summary};
pub use retry::Retry;
pub use stats::{Histogram, Stats};
pub use task::{Full, TaskOptions};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
