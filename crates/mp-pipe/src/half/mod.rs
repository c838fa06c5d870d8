//! One direction of a connection, as its one user sees it.

mod reader;
mod sleep;
mod writer;

pub(crate) use reader::Reader;
pub(crate) use writer::{Refused, Writer};

/// Buffers larger than this are not kept for the next message.
const KEPT: usize = 1 << 20;
