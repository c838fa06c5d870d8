//! Shared memory: values, arrays and frozen slices that several processes use at once.

mod array;
mod element;
mod error;
mod frozen;
mod growable;
mod mapping;
mod named_error;
mod segment;
mod shared_memory;
mod slot;
mod sys;
mod value;

pub use array::{Array, Iter};
pub use element::{Bits, Element, Number};
pub use frozen::{Frozen, FrozenWriter};
pub use mp_core::{GiveError, TakeError, give, take};
pub use named_error::{CreateError, OpenError};
pub use shared_memory::{SharedMemory, reap};
pub use slot::Slot;
pub use value::Value;

#[doc(hidden)]
pub use growable::{Growable, WINDOW};
#[doc(hidden)]
pub use mapping::Mapping;
#[doc(hidden)]
pub use segment::{Format, HEADER, Segment};
