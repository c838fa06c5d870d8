//! What a list may hold, and what can be wrong with it.

use std::error::Error;
use std::fmt;

/// An item of a [`ShareableList`](super::ShareableList).
///
/// Two are equal when type and value are: `1` is neither `1.0` nor `true`, as they would be in Python.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Item {
    /// Nothing, Python's `None`.
    #[default]
    None,
    /// A `bool`.
    Bool(bool),
    /// An integer, Python's `int` of up to 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text, Python's `str`.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

macro_rules! items {
    ($($type:ty => |$value:ident| $item:expr;)*) => { $(
        impl From<$type> for Item {
            fn from($value: $type) -> Item {
                $item
            }
        }
    )* };
}

items! {
    () => |_nothing| Item::None;
    bool => |value| Item::Bool(value);
    i64 => |value| Item::Int(value);
    i32 => |value| Item::Int(value.into());
    u32 => |value| Item::Int(value.into());
    f64 => |value| Item::Float(value);
    f32 => |value| Item::Float(value.into());
    &str => |value| Item::Text(value.to_owned());
    String => |value| Item::Text(value);
    &[u8] => |value| Item::Bytes(value.to_vec());
    Vec<u8> => |value| Item::Bytes(value);
}

impl<T: Into<Item>> From<Option<T>> for Item {
    fn from(value: Option<T>) -> Item {
        value.map_or(Item::None, T::into)
    }
}

/// Why an item could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemError {
    /// There is no such item.
    OutOfRange {
        /// The one that was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// What lies there is no item.
    Malformed {
        /// Which one.
        index: usize,
    },
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemError::OutOfRange { index, len } => out_of_range(f, *index, *len),
            ItemError::Malformed { index } => {
                write!(f, "what lies at index {index} of a shared list is no item, or is just being changed")
            }
        }
    }
}

impl Error for ItemError {}

/// Why an item could not be stored; what was there is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetError {
    /// There is no such item.
    OutOfRange {
        /// The one that was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The text or bytes are longer than the place of the item, or than a place can be (9,999,999 bytes).
    TooLong {
        /// How many bytes.
        length: usize,
        /// How many would fit.
        room: usize,
    },
    /// More than 99,999 bytes of which the last is zero: the length of these cannot be kept.
    EndsInZero,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::OutOfRange { index, len } => out_of_range(f, *index, *len),
            SetError::TooLong { length, room } => {
                write!(f, "{length} bytes do not fit into a place of {room} in a shared list")
            }
            SetError::EndsInZero => {
                f.write_str("more than 99999 bytes that end in a zero byte cannot lie in a shared list")
            }
        }
    }
}

impl Error for SetError {}

fn out_of_range(f: &mut fmt::Formatter<'_>, index: usize, len: usize) -> fmt::Result {
    write!(f, "index {index} is out of range for a shared list of {len}")
}
