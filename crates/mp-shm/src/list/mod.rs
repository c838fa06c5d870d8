//! A list of mixed values in named memory, as Python's `ShareableList` lays it out.
//!
//! All numbers are in the machine's byte order; `n` is the number of items:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `n` |
//! | 8..8 (n + 2) | `n + 1` offsets of the items' places in the data, rising, multiples of 8; the last is the data's length |
//! | then | the data: a place of at least 8 bytes for each item |
//! | then 8 n | the items' formats: text of up to 8 bytes, filled with zeroes |
//! | then n | the items' kinds: 0 a number or `bool`, 1 text, 2 bytes, 3 none |
//!
//! | item | format | kind | in its place |
//! | --- | --- | --- | --- |
//! | integer | `q` | 0 | eight bytes |
//! | float | `d` | 0 | eight bytes |
//! | `bool` | `xxxxxxx?` | 0 | the eighth byte |
//! | text, bytes | `Ns`, `N` the size of the place | 1, 2 | the bytes, then zeroes |
//! | the same ending in a zero byte | `Ms0x`, `M` the exact length | 1, 2 | the bytes |
//! | none | `xxxxxx?x` | 3 | nothing |
//!
//! Python reads the fifth as it reads the fourth, and writes the fourth over it, since that format does not end in `s`.
//!
//! Invariants: (1) The number of items and the offsets never change; they are read and checked once. (2) Whatever lies in a place, its
//! format and its kind are checked whenever they are read: a foreign or killed writer leaves anything. (3) A change of the bytes of a place
//! first makes the item none, then writes the bytes, then format and kind: killed in between, it leaves none, not half
//! of two texts.

mod item;
mod layout;

use crate::error::during;
use crate::named_error::{CreateError, OpenError};
use crate::segment::invalid;
use crate::shared_memory::SharedMemory;
pub use item::{Item, ItemError, SetError};
use layout::{Kept, Layout};
use mp_core::step;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, io};

/// A list of numbers, `bool`s, texts, bytes and nothings in named memory that Python's `ShareableList` opens too, and the other way
/// round.
///
/// Its length is fixed. An item may be replaced by one of another type; a text or bytes by what fits into the place that it got when
/// the list was made.
///
/// ```
/// use mp_shm::{Item, ShareableList};
///
/// # let name = format!("mp-doc-list-{}", std::process::id());
/// # let name = &*name;
/// let list = ShareableList::create(name, ["howdy".into(), 273.15.into(), Item::None, true.into(), (-7).into()])?;
/// let theirs = ShareableList::open(name)?; // in any program
/// theirs.set(1, "warm")?;
/// assert_eq!(list.get(1)?, Item::from("warm"));
/// assert_eq!(list.position(&true.into())?, Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Several writers, and deaths
///
/// Numbers and `bool`s are read and written in one step while their type stays. A text, bytes, or a change of type takes several
/// steps, as in Python: have a lock around these where somebody else may read or write the same item. Whoever is killed in the
/// middle leaves `None` there, and nothing else is touched. Nobody waits for anybody.
///
/// The name is that of its [`SharedMemory`], with all that is said there; [`memory`](ShareableList::memory) gives it.
///
/// # When a process dies
///
/// - **Replacing an item:** the item is the old one, the new one, or none; never half. The others are untouched.
#[derive(Clone)]
pub struct ShareableList {
    memory: SharedMemory,
    layout: Layout,
}

impl ShareableList {
    /// Makes a list with these items under `name`.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::create`]; also when an item cannot lie in such a list (see [`SetError`]), or there are too many.
    pub fn create(name: &str, items: impl IntoIterator<Item = Item>) -> Result<ShareableList, CreateError> {
        let items: Vec<Item> = items.into_iter().collect();
        let fail = |error| CreateError::Io(io::Error::new(io::ErrorKind::InvalidInput, error));
        let kept: Vec<Kept<'_>> =
            items.iter().map(Kept::with_room).collect::<Result<_, SetError>>().map_err(fail)?;
        let layout = Layout::of(kept.iter().map(|kept| kept.room))
            .ok_or_else(|| CreateError::Io(io::ErrorKind::OutOfMemory.into()))?;
        // Written before the name exists, so no opener ever sees half of it.
        let bytes = layout.image(&kept);
        let memory = SharedMemory::create_with(name, &bytes)?;
        Ok(ShareableList { memory, layout })
    }

    /// Opens the list that has `name`, be it from here or from Python.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::open`]; `InvalidData` in [`OpenError::Io`] when it is no list.
    pub fn open(name: &str) -> Result<ShareableList, OpenError> {
        let memory = SharedMemory::open(name)?;
        let read = || Layout::read(&memory);
        let layout = during(read(), || format!("open a list in shared memory `{name}`"));
        Ok(ShareableList { layout: layout.map_err(OpenError::Io)?, memory })
    }

    /// How many items; never changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that it lies in, and with it the name.
    #[must_use]
    #[doc(alias = "shm")]
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// A copy of the item at `index`.
    ///
    /// # Errors
    ///
    /// [`ItemError::OutOfRange`] beyond the end; [`ItemError::Malformed`] when what lies there is no item: text that is not UTF-8, or
    /// what a foreign writer is just changing.
    pub fn get(&self, index: usize) -> Result<Item, ItemError> {
        let place = self.layout.place(index).ok_or(ItemError::OutOfRange { index, len: self.len() })?;
        layout::read(&self.memory, &place).ok_or(ItemError::Malformed { index })
    }

    /// Replaces the item at `index`.
    ///
    /// # Errors
    ///
    /// [`SetError::TooLong`] when the text or bytes do not fit into its place, and so on; the item is as it was then.
    pub fn set(&self, index: usize, item: impl Into<Item>) -> Result<(), SetError> {
        let item = item.into();
        let place = self.layout.place(index).ok_or(SetError::OutOfRange { index, len: self.len() })?;
        let kept = Kept::within(&item, place.room)?;
        if layout::replace_word(&self.memory, &place, &kept) {
            return Ok(());
        }
        layout::make_none(&self.memory, &place);
        step!("shm.list", 1);
        layout::write_bytes(&self.memory, &place, &kept);
        step!("shm.list", 2);
        layout::write_format(&self.memory, &place, &kept);
        step!("shm.list", 3);
        layout::write_kind(&self.memory, &place, &kept);
        Ok(())
    }

    /// The items in order, each read when the iterator comes to it.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Result<Item, ItemError>> + DoubleEndedIterator + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Where the first item is that equals `item`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When an item before it cannot be read.
    #[doc(alias = "index")]
    pub fn position(&self, item: &Item) -> Result<Option<usize>, ItemError> {
        for (index, found) in self.iter().enumerate() {
            if found? == *item {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// How many items equal `item`.
    ///
    /// # Errors
    ///
    /// When an item cannot be read.
    pub fn count(&self, item: &Item) -> Result<usize, ItemError> {
        self.iter().try_fold(0, |count, found| Ok(count + usize::from(found? == *item)))
    }

    /// The items' formats in a row, in the language of Python's `struct`.
    #[must_use]
    pub fn format(&self) -> String {
        let one = |index| {
            let place = self.layout.place(index)?;
            Some(String::from_utf8_lossy(layout::format(&self.memory, &place).text()).into_owned())
        };
        (0..self.len()).filter_map(one).collect()
    }
}

impl fmt::Debug for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Result::ok)).finish()
    }
}

/// Crosses as the handle of its memory, however much lies in it.
impl Serialize for ShareableList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ShareableList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ShareableList, D::Error> {
        let memory = SharedMemory::deserialize(deserializer)?;
        let layout = Layout::read(&memory).map_err(de::Error::custom)?;
        Ok(ShareableList { memory, layout })
    }
}

/// A list is expected, and this is something else.
fn no_list() -> io::Error {
    invalid("it is no list")
}
