//! Shared memory: values, arrays and frozen slices that several processes use at once.

mod growable;
mod mapping;
mod segment;
mod sys;

#[doc(hidden)]
pub use growable::{Growable, WINDOW};
#[doc(hidden)]
pub use mapping::Mapping;
#[doc(hidden)]
pub use segment::{Format, HEADER, Segment};
