//! Shared memory: values, arrays and frozen slices that several processes use at once.
//!
//! The standard library shares memory between threads only: a `static`, an `Arc`, an atomic is another one in each
//! process. Between threads stay with these. Between processes use a [`Value`] where you would use an atomic, an [`Array`] where you would
//! use a slice of them, a [`Frozen`] slice for what is computed once and read by all, and a [`SharedMemory`] where programs that are not
//! related meet under a name.
//!
//! The child sets what the parent reads; everything is a handle that crosses as it is:
//!
//! ```standalone_crate
//! use mp_shm::{Value, give, take};
//! use std::{env, error::Error, process::Command};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if env::args().nth(1).as_deref() == Some("child") {
//!         let value: Value<f64> = take("value")?;
//!         value.set(3.1415);
//!         return Ok(());
//!     }
//!     let value = Value::new(0.0)?; // 'd' in Python, 0.0
//!     let mut child = Command::new(env::current_exe()?);
//!     give(child.arg("child"), "value", &value)?;
//!     assert!(child.status()?.success());
//!     println!("{}", value.get()); // 3.1415
//! #   assert_eq!(value.get(), 3.1415);
//!     Ok(())
//! }
//! ```
//!
//! An array is a handle too, and so is a part of it, one for each worker:
//!
//! ```standalone_crate
//! use mp_shm::{Array, give, take};
//! use std::{env, error::Error, process::Command};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     if env::args().nth(1).as_deref() == Some("child") {
//!         let part: Array<i32> = take("part")?;
//!         for index in 0..part.len() {
//!             part.at(index).update(|number| number * number);
//!         }
//!         return Ok(());
//!     }
//!     let array = Array::from_slice(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])?;
//!     let mut children = Vec::new();
//!     for part in [array.slice(..5), array.slice(5..)] {
//!         let mut child = Command::new(env::current_exe()?);
//!         give(child.arg("child"), "part", &part)?;
//!         children.push(child.spawn()?);
//!     }
//!     for mut child in children {
//!         assert!(child.wait()?.success());
//!     }
//!     println!("{array:?}"); // [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
//! #   assert_eq!(array.to_vec(), [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//!
//! - **A handle crosses.** [`Value`], [`Array`], [`Frozen`] and [`SharedMemory`] are serde values *inside messages of these crates*: an argument
//!   of a process, something sent through a pipe or queue, something handed over by [`give`] and [`take`]. What arrives is the same
//!   memory. The receiver checks kind, type, size and seals, and anything else is an error. Elsewhere (a JSON file, say) serialising one
//!   is an error that says so.
//! - **One step or two.** Each operation on an element is one atomic step: `set`, `swap`, `fetch_add`, `update`. `get` and then `set` are two,
//!   and [race](Value#reading-then-writing-still-races).
//! - **Waiting.** [`Value::wait_until`] and [`Array::at`]`(i).wait_until(..)` sleep until somebody else has changed what is there.
//!   Changing costs nothing for that while nobody waits.
//! - **Bulk.** Copies of many elements run at the speed of `memcpy` and are not one step.
//! - **Frozen.** Written by one, then sealed by the kernel, then a plain `&[T]` for everybody.
//! - **Pages.** All memory is there from the start; [`Array::prefault`] maps it at once too, and [`Array::with_huge_pages`] and
//!   [`FrozenWriter::with_huge_pages`] take huge pages where the machine has some; [`Pages`] says whether it had.
//! - **Named or not.** Memory without a name cannot be left behind. A name is for programs that cannot be handed a handle.
//!
//! # Python's typecodes
//!
//! | Python | here | | Python | here |
//! | --- | --- | --- | --- | --- |
//! | `'c'` | `u8` | | `'i'` | `i32` |
//! | `'b'` | `i8` | | `'I'` | `u32` |
//! | `'B'` | `u8` | | `'l'`, `'q'` | `i64` |
//! | `'u'` | `char` | | `'L'`, `'Q'` | `u64` |
//! | `'h'` | `i16` | | `'f'` | `f32` |
//! | `'H'` | `u16` | | `'d'` | `f64` |
//!
//! `bool`, `isize` and `usize` have no letter there. A wrong letter is an error of the compiler here.
//!
//! # What happens when a process dies
//!
//! | killed | what the others get |
//! | --- | --- |
//! | in any operation on one element | it was done, or not; never half, and nobody waits |
//! | in a bulk copy into an array | some of the elements, the one at the edge perhaps by half: agree by a value set afterwards |
//! | after it has changed an element, before it wakes who waits for that | they see the change within 100 ms |
//! | while it waits for a change | nothing |
//! | while it replaces an item of a [`ShareableList`] | the item is the old one, `None`, or the new one |
//! | while it writes what is to be frozen | nobody has seen it; the kernel frees it |
//! | the last user of memory without a name | the kernel frees it, also while it is on its way in a message |
//! | in [`SharedMemory::create`] | no name at all, or a whole segment under it; never a half-made one |
//! | the creator of a named segment | users keep it; the name stays until somebody [reaps](reap()) it or creates it again |
//! | a user of a named segment | nothing |
//! | in [`reap()`] | the name is still there or gone; what it held locked is free |
//!
//! # Gotchas
//!
//! - `value.set(value.get() + 1)` loses what others add in between; `value.fetch_add(1)` does not, and a lock around both steps
//!   does not either.
//! - `wait_until` looks at what is there, not at each change: what was changed and changed back in between passes unseen.
//! - What was read is old at once: `get` says what was there, not what is.
//! - A `Value` is a whole page of memory and a descriptor. For a thousand numbers take one [`Array`].
//! - Each handle that arrives in a process is a descriptor there; a clone is not.
//! - The memory of a part of an array is the whole array's, and stays as long as any part does.
//! - A name outlives a creator that is killed, and before Python 3.13 a Python program that has opened a name removes it
//!   when it ends: see [`SharedMemory`].
//! - A child made by a plain `fork` keeps the memory and the descriptors as long as it lives. It never removes a name.
//!
//! # Platforms
//!
//! | | Linux | macOS, Windows |
//! | --- | --- | --- |
//! | `Value`, `Array`, `Frozen` | 5.3 and later | not yet |
//! | `SharedMemory`, `reap` | the same, with `/dev/shm` and `/proc` | not yet |
//!
//! # Features
//!
//! None.
//!
//! # Trust and safety
//!
//! Whoever holds a handle may write what it likes at any time, so nothing here is believed: no reference to bytes that others may
//! write is ever made, except to atomics; a `bool` or `char` is checked when it is read; sizes are sealed by the kernel, so that memory
//! cannot vanish under its users. Memory is allocated when it is made: too much is an error then, not a signal later. A [`SharedMemory`] cannot be
//! sealed, so whoever may open its name must be trusted not to truncate it.

mod array;
mod bell;
mod element;
mod error;
mod frozen;
mod growable;
mod list;
mod mapping;
mod named_error;
mod pages;
mod segment;
mod shared_memory;
mod slot;
mod sys;
mod value;
mod view;

pub use array::{Array, Iter};
pub use element::{Bits, Element, Number};
pub use frozen::{Frozen, FrozenWriter};
pub use list::{Item, ItemError, SetError, ShareableList};
#[doc(inline)]
pub use mp_core::give::{GiveError, TakeError, give, take};
#[doc(inline)]
pub use mp_core::{DecodeError, EncodeError};
pub use named_error::{CreateError, OpenError};
pub use pages::Pages;
pub use shared_memory::{SharedMemory, reap};
pub use slot::Slot;
pub use value::Value;

#[doc(hidden)]
pub use growable::{Growable, WINDOW};
#[doc(hidden)]
pub use mapping::Mapping;
#[doc(hidden)]
pub use segment::{Format, HEADER, Segment};
#[doc(hidden)]
pub use view::{View, Words};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
