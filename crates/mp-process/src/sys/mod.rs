//! The OS under processes.
//!
//! Contract: `descriptors` closes what a start has passed on by accident; `images` finds what is loaded and says by which name another process knows the same image; `lifeline` lets the
//! kernel end this process when another closes its end; `process` has the small calls around a start and an end. Raw
//! numbers stay inside.

pub(crate) mod descriptors;
pub(crate) mod images;
pub(crate) mod lifeline;
pub(crate) mod process;
