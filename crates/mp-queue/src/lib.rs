//! Queues between many processes that no process's death can tear or block.
//!
//! [`std::sync::mpsc`] connects the threads of one process, and has one receiver. Between threads stay with it. Between processes use
//! a [`Queue`]: any number of producers and consumers, threads and processes alike, where any of them may be killed at any moment
//! and the others go on.
//!
//! The child puts what the parent gets; a queue is a handle that crosses as it is:
//!
//! ```standalone_crate
//! use mp_queue::{Queue, give, take};
//! use std::{env, error::Error, process::Command};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if env::args().nth(1).as_deref() == Some("task") {
//!         let queue: Queue<String> = take("queue")?;
//!         queue.put("obj".to_owned())?;
//!         return Ok(());
//!     }
//!     let queue = Queue::<String>::bounded(666)?; // `Queue::new()` for one without a bound
//!     let mut task = Command::new(env::current_exe()?);
//!     give(task.arg("task"), "queue", &queue)?;
//!     let mut task = task.spawn()?;
//!     let value = queue.get()?;
//!     println!("{value}"); // obj
//! #   assert_eq!(value, "obj");
//!     assert!(task.wait()?.success());
//!     Ok(())
//! }
//! ```
//!
//! With its halves, work ends by itself: when the last sender is gone, each worker drains what is left and leaves its loop.
//!
//! ```
//! use mp_queue::Queue;
//! use std::thread;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (sender, receiver) = Queue::bounded(8)?.split();
//! let workers: Vec<_> = (0..3)
//!     .map(|_| {
//!         let receiver = receiver.clone();
//!         thread::spawn(move || receiver.iter().map(Result::unwrap).sum::<u64>())
//!     })
//!     .collect();
//! for number in 1..=100 {
//!     sender.put(number)?;
//! }
//! drop(sender);
//! let sum: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
//! assert_eq!(sum, 5050);
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - **Put is done when it returns.** The value is encoded, and then it is in memory that all processes of the queue share. There is no
//!   thread that sends it later: a child that exits after [`put`](Queue::put) loses nothing, nobody needs to read before a child can be joined,
//!   and a [`try_get`](Queue::try_get) right after a `put` finds it. What cannot be encoded is the producer's error, and nothing of it is in
//!   the queue.
//! - **First in, first out**, over all producers. What a consumer has got is its own: nobody else sees it.
//! - **Bound.** [`Queue::bounded`] holds so many values, and producers wait while it is full. [`Queue::new`] takes memory as it needs it and gives it back when
//!   a burst is over.
//! - **Closed.** [`close`](Queue::close) is for everybody, at once: nothing gets in any more, what is inside can still be got, then
//!   `Closed`.
//! - **Whole or half.** A [`Queue`] is both ends, so with one of them alive nobody can be missed. A [`Sender`] and a [`Receiver`] are one
//!   end each: when no handle that puts is left anywhere, receivers drain the queue and then get `Disconnected`, and the other way round. It does not
//!   matter how the last one went, and handles on their way inside of messages count.
//! - **What may be put.** Every serde type that postcard carries. `Vec<u8>`, `String` and vectors of plain numbers cross as they
//!   are, as fast as memory is copied. Handles may stand anywhere in a value: other queues and their halves, connections, locks, shared memory, and with
//!   [`Passed`] files and sockets.
//! - **Done.** On a [`JoinableQueue`] what was got is claimed until it is called done, and [`join`](JoinableQueue::join) waits for that.
//!   What a consumer that died had claimed is handed out again, or counted lost: see [`OnDeath`].
//! - **Many at once.** [`put_many`](Queue::put_many) and [`get_many`](Queue::get_many) take one lock for some dozens of values.
//! - **Readiness.** Each handle is [`Waitable`]: [`wait()`] sleeps on many queues, connections, processes, events and foreign
//!   descriptors at once. Each is also `AsFd` and `AsRawFd`, for `poll`, epoll and async runtimes: readable whenever a get (of a
//!   [`Sender`]: a put) would not wait, and now and then for nothing.
//! - **No user code under a lock.** A value's own `Serialize` and `Deserialize` may use any queue, this one included.
//!
//! # Forms
//!
//! | | waits | at once | with a time-out | until an instant |
//! | --- | --- | --- | --- | --- |
//! | put | [`put`](Queue::put) | [`try_put`](Queue::try_put) | [`put_timeout`](Queue::put_timeout) | [`put_deadline`](Queue::put_deadline) |
//! | get | [`get`](Queue::get), [`iter`](Queue::iter) | [`try_get`](Queue::try_get) | [`get_timeout`](Queue::get_timeout) | [`get_deadline`](Queue::get_deadline) |
//! | put many | [`put_many`](Queue::put_many) | [`try_put_many`](Queue::try_put_many) | [`put_many_timeout`](Queue::put_many_timeout) | – |
//! | get many | [`get_many`](Queue::get_many) | [`try_get_many`](Queue::try_get_many) | [`get_many_timeout`](Queue::get_many_timeout) | – |
//! | bytes | [`put_bytes`](Queue::put_bytes), [`get_bytes_into`](Queue::get_bytes_into) | – | – | – |
//! | claim | [`claim`](JoinableQueue::claim) | [`try_claim`](JoinableQueue::try_claim) | [`claim_timeout`](JoinableQueue::claim_timeout) | [`claim_deadline`](JoinableQueue::claim_deadline) |
//! | join | [`join`](JoinableQueue::join) | – | [`join_timeout`](JoinableQueue::join_timeout) | [`join_deadline`](JoinableQueue::join_deadline) |
//! | close | [`close`](Queue::close) | – | [`close_timeout`](Queue::close_timeout) | – |
//! | not yet | – | [`Full`](TryPutError::Full), [`Empty`](TryGetError::Empty) | `TimedOut` | `TimedOut` |
//! | cannot be | [`PutError`], [`GetError`] | `Failed` with one of these | the same | the same |
//!
//! With the feature `async` there are `put_async`, `get_async` and `claim_async`, under any executor.
//!
//! Whatever is not put comes back with the error. `put` waits only on a queue with a bound. A time-out covers the whole operation; one of
//! zero looks once. [`len`](Queue::len), [`is_empty`](Queue::is_empty), [`is_full`](Queue::is_full), [`is_closed`](Queue::is_closed)
//! and [`bound`](Queue::bound) never wait.
//!
//! # What happens when a process dies
//!
//! | killed | what the others get |
//! | --- | --- |
//! | a producer in the middle of `put` | its value is not in the queue, or is there whole; handles that it had sent are closed |
//! | a producer after `put` | its values |
//! | a consumer in the middle of `get` | the value is still there, or was taken whole and is lost with its taker |
//! | who waits in `put` or `get` | nothing: nobody waits for a waiter |
//! | the last sender | what is inside, then [`Disconnected`](GetError::Disconnected) |
//! | the last receiver | the value back, with [`Disconnected`](PutError::Disconnected) |
//! | in the middle of `put_many` or `get_many` | the first so many values were put or taken whole, the others were not |
//! | a consumer of a [`JoinableQueue`] with claims | they are handed out again, or counted lost; `join` goes on |
//! | … in the middle of `task_done` | the same, or it was done |
//! | who polls, or rings for those who poll | nothing: no poller misses anything |
//! | in `close` | the queue is closed, or is not |
//! | the last user of a queue | the kernel frees it, with all that is inside |
//! | nobody, but it was stopped in the middle of an operation | delays up to their own time-outs; see below |
//!
//! The others go on at once. What only the dead one could have told them, that there is something to get, room to put, or nobody left,
//! they find out within 100 ms.
//!
//! # Gotchas
//!
//! - **Iteration over a whole queue ends only when it is closed.** Each process with a [`Queue`] is a producer that might still put. Hand out
//!   [`Sender`]s and [`Receiver`]s, and drop your own, where the end is to be seen.
//! - **What was given to a [`Command`](std::process::Command) stays open until the `Command` is dropped**, also when its child has died.
//! - A child made by a plain `fork` holds everything that its parent held, and so delays the news that somebody is gone.
//! - A value that a consumer had got when it was killed is lost. Where that matters, use a [`JoinableQueue`].
//! - On a [`JoinableQueue`] a value may be got twice: its consumer died after its work and before it called it done. Closing does not wait
//!   for claims: who is told `Closed` may be missed by what comes back later, so `join` first, then close.
//! - Who polls a [`JoinableQueue`] by itself learns of dead consumers when it looks: let the poll end once a second, as [`wait()`] does.
//! - **Stopped is not dead.** A process that is stopped (SIGSTOP, a debugger, a core dump being written) in the middle of an operation keeps the others from the same kind
//!   of operation until it goes on; those with time-outs get theirs, and those that want no wait give up after 100 ms, as if the queue were full or empty. A `put`, a `get` or a
//!   `close` without a time-out waits; [`close_timeout`](Queue::close_timeout) gives up.
//! - Where several consume, values are *got* in order; what they do with them is up to their speed.
//! - `len` and its like are old at once when others use the queue. Only "closed" stays true.
//! - The bound counts values, not bytes. A value of 4 GiB or more cannot be put: share memory, and put its handle.
//! - The kernel keeps some 270 values with handles in flight for each queue, and about RLIMIT_NOFILE handles for each user. One more is
//!   [`TooManyHandles`](PutError::TooManyHandles), which gives the value back, never a wait. A consumer that has no room for the handles of a value gets
//!   [`TooManyHandles`](GetError::TooManyHandles), and the value is lost.
//! - A value for which a consumer has no memory, or no address space, is an error there and stays inside: another one may get it.
//! - The memory of a burst goes back when a consumer has waited 100 ms for nothing; that of a single value of several MiB with the value itself,
//!   until a process has got three such without an end of a wait in vain: from then on up to two times 64 MiB are kept for the next ones, until
//!   a wait, or a look, finds nothing, or that process lets go of the queue. A consumer that is killed then leaves them to the next one who waits.
//! - Each queue that arrives in a process is four descriptors there, each half three; one more with a bound, one more that can be
//!   joined, up to two more when it is polled; a clone is none.
//! - postcard does not carry untagged, internally tagged and flattened types (an error says so), and reads types with `skip_serializing_if` wrongly.
//! - The type is not a part of the handle: a queue taken as one of another type gives errors, or values of that type if the bytes happen to
//!   be such.
//!
//! # Platforms
//!
//! | | Linux | macOS, Windows |
//! | --- | --- | --- |
//! | all | 5.3 and later | not yet |
//!
//! All processes of a queue must be in one pid namespace, so that the dead can be told from the living; a handle from another one is an error.
//!
//! # Features
//!
//! - `async`: the forms for futures. They cost no thread each; [`async-io`](https://docs.rs/async-io) has one for the process.
//!
//! # Trust and safety
//!
//! Whoever holds a handle of a queue is trusted with what is inside. Whatever is read from the shared memory is checked before it is used, since
//! a buggy program may have written it: the answer is an error, not a crash. There is no unsafe code in this crate.

#![forbid(unsafe_code)]

mod batch;
mod bell;
mod bytes;
mod claims;
mod core;
mod end;
mod error;
mod get;
mod idle;
mod join;
mod joinable;
mod methods;
mod polled;
mod put;
mod queue;
mod raw;
mod ready;
mod simple;
mod split;
mod sync;
mod wait;

pub use batch::{Batch, PutManyError};
pub use error::{
    GetBytesIntoError, GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError,
};
pub use joinable::{Claim, JoinableQueue, OnDeath, TaskDoneError};
#[doc(inline)]
pub use mp_core::wait::{Readable, Waitable, wait};
#[doc(inline)]
pub use mp_core::{DecodeError, EncodeError, GiveError, Passed, TakeError, give, take};
pub use queue::Queue;
pub use simple::SimpleQueue;
pub use split::{Receiver, Sender};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
