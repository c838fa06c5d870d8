//! Segments of the types that have no mutex of their own: opening and checking.

use crate::orphan::same_namespace;
use mp_shm::{Format, Segment};
use serde::de::{Deserializer, Error};
use std::io;

/// A segment with at least `len` bytes whose records of owners mean something here.
pub(crate) fn checked(segment: Segment, len: usize) -> io::Result<Segment> {
    if segment.len() < len {
        let text = "shared memory that is too small for what it should hold";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    same_namespace(segment)
}

/// Opens a segment of `format` with at least `len` bytes, as the `Deserialize` of a type.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
    format: Format,
    len: usize,
) -> Result<Segment, D::Error> {
    checked(Segment::deserialize_as(deserializer, format)?, len).map_err(D::Error::custom)
}
