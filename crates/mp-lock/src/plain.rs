//! Segments of the types that have no mutex: opening and checking.

use crate::orphan::same_namespace;
use mp_shm::{Format, Segment};
use serde::de::{Deserializer, Error};

/// Opens a segment of `format` with at least `len` bytes, as the `Deserialize` of a type.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
    format: Format,
    len: usize,
    records_owners: bool,
) -> Result<Segment, D::Error> {
    let segment = Segment::deserialize_as(deserializer, format)?;
    if segment.len() < len {
        return Err(D::Error::custom("shared memory that is too small for what it should hold"));
    }
    if records_owners { same_namespace(segment).map_err(D::Error::custom) } else { Ok(segment) }
}
