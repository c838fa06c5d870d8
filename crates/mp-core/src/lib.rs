//! The foundation of the mp crates: wire codec, OS handles as serde values, process identity, deadlines, waiting.
//!
//! Programs do not name this crate: each `mp-*` crate re-exports what its users need. What lives here is what two or
//! more of them share and none of them owns:
//!
//! | module | idea |
//! | --- | --- |
//! | [`wire`] | a value becomes bytes and handles, and comes back |
//! | [`handle`] | an OS handle is a serde value while a message is encoded |
//! | [`socket`] | whole messages with handles over a Unix stream socket |
//! | [`give`](mod@give) | handing a value to a child of [`std::process::Command`] |
//! | [`identity`] | which process is this, and does it still live |
//! | [`news`] | what this process has learnt of deaths |
//! | [`deadline`] | a time-out covers a whole operation, whatever interrupts it |
//! | [`ends`] | the lifelines of this process, to let go of them before it waits for others at its end |
//! | [`park`] | spinning, sleeping and waking across processes |
//! | [`wait`](mod@wait) | waiting on many things at once; with the feature `async`, `ready` waits on one in a future |
//! | [`step`](mod@step) | numbered steps where tests kill a process |

#[doc(hidden)]
pub mod step;

pub mod deadline;
pub mod ends;
mod error;
pub mod give;
pub mod handle;
pub mod identity;
pub mod news;
pub mod park;
pub mod plain;
#[cfg(feature = "async")]
mod ready;
pub mod socket;
mod sys;
pub mod wait;
pub mod wire;

pub use deadline::Deadline;
pub use give::{GiveError, TakeError, give, take};
pub use handle::{Handle, Passed};
pub use identity::Identity;
#[cfg(feature = "async")]
pub use ready::ready;
pub use wait::{Readable, Waitable, wait};
pub use wire::{DecodeError, EncodeError, Encoding, Message, decode, encode};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
