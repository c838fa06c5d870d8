//! The OS under processes.
//!
//! Contract: `images` finds what is loaded and says by which name another process knows the same image; `lifeline` lets the
//! kernel end this process when another closes its end; `clone` makes a copy of this process, and `births` holds the words in
//! which the kernel leaves the copies' pids; `crash` writes down where a fault was; `descriptors` closes what a start has passed on by accident; `process` has the
//! small calls around a start and an end; `signals` the dispositions. Raw numbers stay inside.

pub(crate) mod births;
pub(crate) mod clone;
pub(crate) mod crash;
pub(crate) mod descriptors;
pub(crate) mod images;
pub(crate) mod lifeline;
pub(crate) mod process;
pub(crate) mod signals;
