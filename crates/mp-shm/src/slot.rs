//! One element in shared memory: the operations that `Value`, `Array` and `SharedMemory` have in common.

use crate::element::sealed::{Place, Word};
use crate::element::{self, Bits, Element, Number};
use crate::mapping::Mapping;
use std::fmt;

/// One element of shared memory, lent by an [`Array`](crate::Array) or a [`SharedMemory`](crate::SharedMemory): what a
/// [`Value`](crate::Value) can do, it can.
///
/// ```
/// let hits = mp_shm::Array::<u64>::new(4)?;
/// hits.at(2).fetch_add(1);
/// hits.at(2).update(|hits| hits * 10);
/// assert_eq!(hits.to_vec(), [0, 0, 10, 0]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Slot<'a, T: Element> {
    place: &'a Place<T>,
}

impl<'a, T: Element> Slot<'a, T> {
    /// The element at `offset`, which must lie inside and be aligned.
    #[inline]
    #[track_caller]
    pub(crate) fn in_map(map: &'a Mapping, offset: usize) -> Slot<'a, T> {
        Slot { place: <T::Word as Word>::at(map, offset) }
    }

    /// Reads it.
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        T::from_word(T::Word::load(self.place))
    }

    /// Writes it.
    #[inline]
    pub fn set(&self, value: T) {
        T::Word::store(self.place, value.into_word());
    }

    /// Writes it and returns what was there, in one step.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::from_word(T::Word::swap(self.place, value.into_word()))
    }

    /// Writes `new` if it is `current`, in one step; returns what was there, as an error when it was something else.
    ///
    /// Floats are compared bit by bit: a NaN equals itself, `0.0` and `-0.0` differ.
    ///
    /// # Errors
    ///
    /// When it was not `current`; nothing was written then.
    #[inline]
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let wanted = current.into_word();
        let same = |found: T| found.into_word() == wanted;
        // Compared as elements, since several foreign patterns may stand for one of them.
        element::try_update(self.place, |found: T| same(found).then_some(new))
    }

    /// Replaces it by what `change` makes of it, in one step; returns what was there.
    ///
    /// Nothing is locked: when somebody else was faster, `change` runs again with what they wrote.
    #[inline]
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        element::update(self.place, change)
    }

    /// As [`update`](Slot::update), unless `change` returns `None`; returns what was there.
    ///
    /// # Errors
    ///
    /// When `change` returned `None`; nothing was written then.
    #[inline]
    pub fn try_update(&self, change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        element::try_update(self.place, change)
    }
}

impl<T: Number> Slot<'_, T> {
    /// Adds to it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_add(&self, by: T) -> T {
        T::fetch_add(self.place, by)
    }

    /// Subtracts from it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_sub(&self, by: T) -> T {
        T::fetch_sub(self.place, by)
    }

    /// Lowers it to `limit` if it is more, in one step; returns what was there.
    #[inline]
    pub fn fetch_min(&self, limit: T) -> T {
        self.update(|old| old.smaller(limit))
    }

    /// Raises it to `limit` if it is less, in one step; returns what was there.
    #[inline]
    pub fn fetch_max(&self, limit: T) -> T {
        self.update(|old| old.larger(limit))
    }
}

impl<T: Bits> Slot<'_, T> {
    /// Keeps the bits that are in `with` too, in one step; returns what was there.
    #[inline]
    pub fn fetch_and(&self, with: T) -> T {
        T::fetch_and(self.place, with)
    }

    /// Adds the bits of `with`, in one step; returns what was there.
    #[inline]
    pub fn fetch_or(&self, with: T) -> T {
        T::fetch_or(self.place, with)
    }

    /// Turns the bits of `with` round, in one step; returns what was there.
    #[inline]
    pub fn fetch_xor(&self, with: T) -> T {
        T::fetch_xor(self.place, with)
    }
}

impl<T: Element> Clone for Slot<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Element> Copy for Slot<'_, T> {}

impl<T: Element> fmt::Debug for Slot<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.get()).finish()
    }
}
