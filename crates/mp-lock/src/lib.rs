//! Locks between processes that survive the death of their holder.
//!
//! The standard library's locks are for threads: each process has its own, and a lock whose thread is killed stays locked.
//! Between threads stay with them. Between processes use these, which any process may hold, and which pass on when their
//! holder dies.
//!
//! Two children each add five times, and nobody comes between; everything is a handle that crosses as it is:
//!
//! ```standalone_crate
//! use mp_lock::{Mutex, give, take};
//! use std::{env, error::Error, process::Command, thread, time::Duration};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if let Some(step) = env::args().nth(1) {
//!         let (value, step): (Mutex<i32>, i32) = (take("value")?, step.parse()?);
//!         let mut guard = value.acquire()?;
//!         for _ in 0..5 {
//!             thread::sleep(Duration::from_millis(10));
//!             let now = guard.get();
//!             guard.set(now + step);
//!         }
//!         return Ok(());
//!     }
//!     let value = Mutex::new(0)?;
//!     let mut children = Vec::new();
//!     for step in ["1", "3"] {
//!         let mut child = Command::new(env::current_exe()?);
//!         give(child.arg(step), "value", &value)?;
//!         children.push(child.spawn()?);
//!     }
//!     for mut child in children {
//!         assert!(child.wait()?.success());
//!     }
//!     println!("{}", value.acquire()?.get()); // 20
//! #   assert_eq!(value.acquire()?.get(), 20);
//!     Ok(())
//! }
//! ```
//!
//! A child that dies holding a lock is news to the next who acquires it, and no more than that:
//!
//! ```standalone_crate
//! use mp_lock::{AcquireError, Lock, give, take};
//! use std::{env, error::Error, process::Command};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if env::args().nth(1).is_some() {
//!         let lock: Lock = take("lock")?;
//!         let _guard = lock.acquire()?;
//!         std::process::abort();
//!     }
//!     let lock = Lock::new()?;
//!     let mut child = Command::new(env::current_exe()?);
//!     give(child.arg("child"), "lock", &lock)?;
//!     assert!(!child.status()?.success());
//!     match lock.acquire() {
//!         Err(AcquireError::OwnerDied(guard)) => {
//!             // Here, put in order what the lock guards.
//!             guard.mark_recovered();
//!         }
//!         other => panic!("no news: {other:?}"),
//!     }
//!     assert!(lock.acquire().is_ok());
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//!
//! - **A handle crosses.** Each type here is a serde value *inside messages of these crates*: an argument of a process, something
//!   sent through a pipe or queue, something handed over by [`give`](give()) and [`take`]. What arrives is the same lock.
//!   Elsewhere (a JSON file, say) serialising one is an error that says so.
//! - **The holder is a thread.** Its guard cannot go to another one. Python's lock that anybody may release is a
//!   [`Semaphore`] of one permit.
//! - **News, not panic.** `acquire` gives the guard, or an error that carries the guard and the news. With `?` the error goes up and the
//!   lock is free again, the news still there; [`into_guard`](AcquireError::into_guard) takes it on,
//!   [`into_owned`](AcquireError::into_owned) makes an error that travels. `acquire_or_recover` is for what cannot be left half-changed.
//! - **With or without a name.** `new` makes memory that the kernel frees with its last user. `new_in` makes the same at a place of a
//!   [`SharedMemory`], and `open_in` finds it there: for programs that share nothing but the name. A place is a multiple of 64; `SIZE`, or
//!   `size(..)`, says how many bytes one takes, so that the next one has room from `(place + SIZE).next_multiple_of(64)` on. Each of them keeps
//!   the memory open, as a clone of its handle does.
//! - **Four forms.** `acquire` waits, `try_acquire` does not, `acquire_timeout` and `acquire_deadline` give up: on the monotonic clock, after the
//!   whole time. A time-out of zero tries once, [`Duration::MAX`](std::time::Duration::MAX) waits for ever, a signal interrupts nothing.
//!
//! # What happens when a process dies
//!
//! | type | holding it | waiting for it |
//! | --- | --- | --- |
//! | [`Lock`], [`RLock`], [`Mutex`] | the next gets it at once, with the news, until somebody marks it as recovered | nobody notices |
//! | [`RwLock`] | a writer: as a lock; a reader: its share comes back within 100 ms | nobody notices |
//! | [`Once`] | (running it) the next one runs it | nobody notices |
//! | [`Semaphore`], [`BoundedSemaphore`] | its permits come back within 100 ms, forgotten ones do not | nobody notices |
//! | [`Event`] | (setting it) it is set or not; seen within 100 ms | nobody notices |
//! | [`Condition`] | (notifying) so many are woken as it had got to, within 100 ms | its notification goes to another |
//! | [`Barrier`] | (registered) it breaks within 100 ms while somebody waits | it breaks within 100 ms |
//!
//! # Gotchas
//!
//! - The news comes from the kernel for locks, at once, and by looking after the owners for semaphores, barriers and conditions: within 100 ms
//!   (they look each 80), while somebody waits. Nobody looks while nobody waits.
//! - A process that is *stopped* holding a lock (SIGSTOP, a debugger) is alive: the others wait. Use time-outs.
//! - Two locks acquired in two orders deadlock, as everywhere.
//! - A thread that ends holding a lock, its guard forgotten, counts as dead. A forgotten guard of a living thread holds the lock, and keeps its
//!   memory mapped until the process ends (in named memory, its name too, unless it was unlinked).
//! - A program that becomes another one by `exec` no longer holds its locks: the next one to try gets them with the news, one who waits already
//!   within 100 ms. Its permits, its shares for reading and its places at barriers are its process's, which lives on; they come back when that ends.
//! - A thread can hold some 2,000 locks at once; the kernel looks no further when it dies.
//! - Locks cannot cross into another pid namespace (another container): their owners could not be told alive from dead there. They are refused
//!   when they arrive. An [`Event`] has no owner and may cross.
//! - An [`Event`] in named memory has no descriptor: it is waited for by itself, not in [`wait()`]; a future looks at it now and then.
//! - [`wait`](Event::wait) of an [`Event`] that somebody polls costs system calls, as its descriptor is the flag from then on.
//! - A child of a bare `fork` inherits guards and permits that are its parent's; dropping them there does nothing. A child made by a raw `clone`
//!   must not use what its parent held, nor one that was forked into a new pid namespace what it inherited.
//! - [`Mutex`] and [`RwLock`] take plain data (`bytemuck::Pod`) only: whatever a dead process leaves must be a valid value.
//!
//! # Platforms
//!
//! | | state |
//! | --- | --- |
//! | Linux (x86-64, aarch64), glibc 2.30 or newer | complete |
//! | Linux, musl | a step of the wall clock may shift one slice of a wait for a lock, not the time-out |
//! | others | not yet |
//!
//! # Features
//!
//! - `async`: [`Event`] gets `wait_async`, [`Semaphore`] and [`BoundedSemaphore`] get `acquire_async`. They cost no thread each;
//!   [`async-io`](https://docs.rs/async-io) has one for the process. The locks have no such form: a [`Lock`]'s holder is a thread, not a task, and a
//!   task that keeps one over an `await` may go on elsewhere. Over an `await` use a [`Semaphore`] of one permit; wait for a [`Condition`] or
//!   [`Barrier`] on a thread where blocking is allowed.
//!
//! # Trust and safety
//!
//! Whoever holds a handle is trusted with it: it could unlock what others hold by writing over it. What a *dead* process leaves is never
//! trusted. Unsafe code is confined to the mutex of the C library, the loans of a [`Mutex`]'s or [`RwLock`]'s value, and the adapters of [`raw_sync`].

mod barrier;
mod condition;
mod error;
mod event;
mod lock;
mod mutex;
mod once;
mod orphan;
#[cfg(feature = "async")]
mod pace;
mod plain;
#[doc(hidden)]
pub mod raw;
pub mod raw_sync;
mod rlock;
mod rwlock;
mod semaphore;
mod spin;
mod sys;

pub use barrier::{Barrier, BarrierError, MAX_PARTIES, Party, TooManyParties};
pub use condition::{Condition, ConditionGuard, MAX_WAITERS};
pub use error::{AcquireError, AcquireTimeoutError, LockError, TryAcquireError};
pub use event::Event;
pub use lock::{Lock, LockGuard};
pub use mp_core::{GiveError, Passed, Readable, TakeError, Waitable, give, take, wait};
#[doc(no_inline)]
pub use mp_shm::SharedMemory;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{MAX_READERS, ReadGuard, RwLock, WriteGuard};
pub use semaphore::{BoundedSemaphore, MAX_PERMITS, Permit, ReleaseError, Semaphore};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
