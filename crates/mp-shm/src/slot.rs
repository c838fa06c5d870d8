//! One element in shared memory: the operations that `Value`, `Array` and `SharedMemory` have in common.

use crate::bell;
use crate::element::sealed::{Place, Word};
use crate::element::{self, Bits, Element, Number};
use crate::mapping::Mapping;
use mp_core::Deadline;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

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
    /// Rung after each change; none in memory whose bytes are all the user's.
    bell: Option<&'a AtomicU32>,
}

impl<'a, T: Element> Slot<'a, T> {
    /// The element at `offset`, which must lie inside and be aligned.
    #[inline]
    #[track_caller]
    pub(crate) fn in_map(map: &'a Mapping, offset: usize) -> Slot<'a, T> {
        Slot { place: <T::Word as Word>::at(map, offset), bell: None }
    }

    /// The element at `offset`, with a bell at `bell` that is rung when it changes.
    #[inline]
    #[track_caller]
    pub(crate) fn with_bell(map: &'a Mapping, offset: usize, bell: usize) -> Slot<'a, T> {
        Slot { bell: Some(map.atomic_u32(bell)), ..Slot::in_map(map, offset) }
    }

    /// Passes on what an operation that has changed it returns.
    #[inline]
    fn changed<R>(&self, result: R) -> R {
        if let Some(bell) = self.bell {
            bell::changed(bell);
        }
        result
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
        self.changed(());
    }

    /// Writes it as one of many: what was written before is seen by whoever sees this, and the caller rings the bells.
    #[inline]
    pub(crate) fn fill(&self, value: T) {
        T::Word::store_one_of_many(self.place, value.into_word());
    }

    /// Writes it and returns what was there, in one step.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        self.changed(T::from_word(T::Word::swap(self.place, value.into_word())))
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
        self.try_update(|found: T| same(found).then_some(new))
    }

    /// Replaces it by what `change` makes of it, in one step; returns what was there.
    ///
    /// Nothing is locked: when somebody else was faster, `change` runs again with what they wrote.
    #[inline]
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        self.changed(element::update(self.place, change))
    }

    /// As [`update`](Slot::update), unless `change` returns `None`; returns what was there.
    ///
    /// # Errors
    ///
    /// When `change` returned `None`; nothing was written then.
    #[inline]
    pub fn try_update(&self, change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        element::try_update(self.place, change).map(|old| self.changed(old))
    }

    /// Waits until it is something that `done` accepts, and returns that.
    ///
    /// The thread sleeps meanwhile. What is there for an instant only may pass unseen. A change by a process that died before it
    /// could wake anybody is seen within 100 ms. Elements of a [`SharedMemory`](crate::SharedMemory) have nothing that wakes, since other
    /// programs would not know of it: there this looks again after a millisecond, then less and less often, at least every
    /// 100 ms.
    pub fn wait_until(&self, done: impl FnMut(T) -> bool) -> T {
        // It never gives up, so there is always something; what is there now stands for the case that cannot be.
        self.wait(done, Deadline::NEVER).unwrap_or_else(|| self.get())
    }

    /// As [`wait_until`](Slot::wait_until), at most so long; `None` when the time is over. Zero looks once, `Duration::MAX` waits
    /// for ever.
    pub fn wait_until_timeout(&self, done: impl FnMut(T) -> bool, timeout: Duration) -> Option<T> {
        self.wait(done, Deadline::after(timeout))
    }

    /// As [`wait_until`](Slot::wait_until), at most until then; `None` when the time is over.
    pub fn wait_until_deadline(&self, done: impl FnMut(T) -> bool, deadline: Instant) -> Option<T> {
        self.wait(done, Deadline::at(deadline))
    }

    /// Waits until it is no longer `old`, and returns what it is; see [`wait_until`](Slot::wait_until). Floats are compared bit
    /// by bit.
    pub fn wait_changed(&self, old: T) -> T {
        self.wait_until(differs_from(old))
    }

    /// As [`wait_changed`](Slot::wait_changed), at most so long; `None` when the time is over.
    pub fn wait_changed_timeout(&self, old: T, timeout: Duration) -> Option<T> {
        self.wait_until_timeout(differs_from(old), timeout)
    }

    /// As [`wait_changed`](Slot::wait_changed), at most until then; `None` when the time is over.
    pub fn wait_changed_deadline(&self, old: T, deadline: Instant) -> Option<T> {
        self.wait_until_deadline(differs_from(old), deadline)
    }

    fn wait(&self, mut done: impl FnMut(T) -> bool, deadline: Deadline) -> Option<T> {
        bell::wait(self.bell, deadline, || Some(self.get()).filter(|now| done(*now)))
    }
}

fn differs_from<T: Element>(old: T) -> impl FnMut(T) -> bool {
    let old = old.into_word();
    move |now| now.into_word() != old
}

impl<T: Number> Slot<'_, T> {
    /// Adds to it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_add(&self, by: T) -> T {
        self.changed(T::fetch_add(self.place, by))
    }

    /// Subtracts from it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_sub(&self, by: T) -> T {
        self.changed(T::fetch_sub(self.place, by))
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
        self.changed(T::fetch_and(self.place, with))
    }

    /// Adds the bits of `with`, in one step; returns what was there.
    #[inline]
    pub fn fetch_or(&self, with: T) -> T {
        self.changed(T::fetch_or(self.place, with))
    }

    /// Turns the bits of `with` round, in one step; returns what was there.
    #[inline]
    pub fn fetch_xor(&self, with: T) -> T {
        self.changed(T::fetch_xor(self.place, with))
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
