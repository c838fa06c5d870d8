//! Processes, queues, pipes, shared memory, locks and pools: Python's multiprocessing, for Rust, without its deadlocks.
//!
//! Reach for processes instead of threads when a task may crash, hang, leak or blow its memory and the program must go on;
//! when code is not thread-safe; when a Python program is being rewritten; when programs on one machine share memory, locks and
//! queues. For anything else, threads are simpler: `std::thread`, or rayon.
//!
//! | module | has |
//! | --- | --- |
//! | [`process`] | [`Process`]: run a Rust function in another process and get its result back |
//! | [`queue`] | [`Queue`]: first in, first out, between any number of processes |
//! | [`pipe`](mod@pipe) | [`pipe()`]: two connected ends; `Listener` and `Client` for programs that meet by name |
//! | [`shm`] | [`Value`], [`Array`], `Frozen`, named `SharedMemory` |
//! | [`lock`] | [`Lock`] and its kin, which survive the death of their holder |
//! | [`pool`] | [`Pool`]: worker processes that a crashing, hanging or leaking task cannot break |
//!
//! Each module is a crate of its own (`mp-queue`, and so on), whose page it is; depend on just the one you need. In their
//! examples read `mp_queue::` as `multiprocess::queue::`.
//!
//! ```standalone_crate
//! use multiprocess::{Lock, Process, RemoteError, Value};
//!
//! fn job(value: Value<i32>, step: i32, lock: Lock) -> Result<(), RemoteError> {
//!     let _guard = lock.acquire()?;
//!     for _ in 0..5 {
//!         value.set(value.get() + step);
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     multiprocess::init(); // the first line of main
//!     let (value, lock) = (Value::new(0)?, Lock::new()?);
//!     let one = Process::spawn(job, (value.clone(), 1, lock.clone()))?;
//!     let three = Process::spawn(job, (value.clone(), 3, lock.clone()))?;
//!     one.join()??;
//!     three.join()??;
//!     assert_eq!(value.get(), 20);
//!     Ok(())
//! }
//! ```
//!
//! # The promise
//!
//! No process's death, at any instruction, hangs, corrupts or leaks anything in another. What each operation gives its
//! survivors stands on each type's page; the rules that make it true are in the repository's `docs/architecture.md`.
//!
//! # Gotchas
//!
//! - [`init()`] is the first line of `main`; in tests, [`enable_test_support!`] stands once in the crate.
//! - Functions that run elsewhere capture nothing: pass what they need as arguments.
//! - What crosses is a copy. A `static` that a child changes is unchanged here: share a [`Value`], or send a message.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[doc(inline)]
pub use mp_lock as lock;
#[doc(inline)]
pub use mp_pipe as pipe;
#[doc(inline)]
pub use mp_pool as pool;
#[doc(inline)]
pub use mp_process as process;
#[doc(inline)]
pub use mp_queue as queue;
#[doc(inline)]
pub use mp_shm as shm;

#[doc(no_inline)]
pub use mp_lock::Lock;
#[doc(no_inline)]
pub use mp_pipe::pipe;
#[doc(no_inline)]
pub use mp_pool::Pool;
#[doc(no_inline)]
pub use mp_process::{Process, RemoteError, cpu_count, enable_test_support, init, scope};
#[doc(no_inline)]
pub use mp_queue::Queue;
#[doc(no_inline)]
pub use mp_shm::{Array, Value};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
