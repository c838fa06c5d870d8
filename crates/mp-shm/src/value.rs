//! One element that several processes share.

use crate::element::{Bits, Element, Number};
use crate::error::during;
use crate::segment::{self, Format, HEADER, Segment};
use crate::slot::Slot;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use std::{fmt, io};

/// A number, a `bool` or a `char` that several processes use at once; Python's `Value`.
///
/// A clone is the same value, and so is what a child gets as an argument or through a pipe or queue. The memory has
/// no name; the kernel frees it with its last user, however that one ends.
///
/// Every operation is one atomic step without a lock, so a process that is killed in one has done it or not, and nobody ever
/// waits for anybody. All are sequentially consistent, among all values and arrays: whoever looks at two of them sees no order
/// of events that others could contradict. Python's lock around every access gives the same; a weaker order would make
/// a plain `set` cheaper by some nanoseconds and the classic two-flag handshake wrong.
///
/// # Reading, then writing, still races
///
/// `get` and `set` are two steps, and another process may come between:
///
/// ```
/// let value = mp_shm::Value::new(0)?;
/// let (mine, theirs) = (value.clone(), value.clone());
/// let (read_by_me, read_by_them) = (mine.get(), theirs.get());
/// mine.set(read_by_me + 1);
/// theirs.set(read_by_them + 3); // what I added is lost
/// assert_eq!(value.get(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// One step does not: [`fetch_add`](Value::fetch_add), or [`update`](Value::update) for anything else; a lock around both steps mends
/// it too. Here two processes' worth of threads add at once and nothing is lost:
///
/// ```
/// let value = mp_shm::Value::new(0)?;
/// std::thread::scope(|scope| {
///     for step in [1, 3] {
///         let value = value.clone();
///         scope.spawn(move || (0..5).for_each(|_| _ = value.fetch_add(step)));
///     }
/// });
/// assert_eq!(value.get(), 20);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # When a process dies
///
/// - **Changing it:** the change is made whole or not at all. Whoever waits for a change sees it within 100 ms, also when the dead one had not told.
/// - **Waiting for a change:** nobody else notices.
/// - The memory goes with its last user.
#[doc(alias = "RawValue")]
#[doc(alias = "Synchronized")]
pub struct Value<T: Element> {
    segment: Segment,
    element: PhantomData<T>,
}

impl<T: Element> Value<T> {
    const FORMAT: Format = Format::element::<T>(*b"VALU", 2);

    /// Makes a value in new shared memory.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left.
    pub fn new(value: T) -> io::Result<Value<T>> {
        let segment = Segment::create(Self::FORMAT, size_of::<T>());
        let segment = during(segment, || "make a shared value".into())?;
        let made = Value { segment, element: PhantomData };
        made.set(value);
        Ok(made)
    }

    #[inline]
    fn slot(&self) -> Slot<'_, T> {
        Slot::with_bell(self.segment.map(), HEADER, segment::bell(0))
    }

    /// Reads it. It may change at any time.
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        self.slot().get()
    }

    /// Writes it.
    #[inline]
    pub fn set(&self, value: T) {
        self.slot().set(value);
    }

    /// Writes it and returns what was there, in one step.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        self.slot().swap(value)
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
        self.slot().compare_exchange(current, new)
    }

    /// Replaces it by what `change` makes of it, in one step; returns what was there.
    ///
    /// Nothing is locked: when somebody else was faster, `change` runs again with what they wrote.
    ///
    /// ```
    /// let value = mp_shm::Value::new('a')?;
    /// assert_eq!(value.update(|letter| letter.to_ascii_uppercase()), 'a');
    /// assert_eq!(value.get(), 'A');
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn update(&self, change: impl FnMut(T) -> T) -> T {
        self.slot().update(change)
    }

    /// As [`update`](Value::update), unless `change` returns `None`; returns what was there.
    ///
    /// # Errors
    ///
    /// When `change` returned `None`; nothing was written then.
    #[inline]
    pub fn try_update(&self, change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        self.slot().try_update(change)
    }

    /// Waits until it is something that `done` accepts, and returns that.
    ///
    /// The thread sleeps meanwhile, and whoever changes the value pays for that only while somebody waits. What is there for an
    /// instant only may pass unseen. A change by a process that died before it could wake anybody is seen within 100 ms; nobody
    /// ever waits for one who waits.
    ///
    /// ```
    /// let ready = mp_shm::Value::new(false)?;
    /// let other = ready.clone(); // in another process, say
    /// let thread = std::thread::spawn(move || other.set(true));
    /// ready.wait_until(|ready| ready);
    /// # thread.join().expect("it does not panic");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_until(&self, done: impl FnMut(T) -> bool) -> T {
        self.slot().wait_until(done)
    }

    /// As [`wait_until`](Value::wait_until), at most so long; `None` when the time is over. Zero looks once, `Duration::MAX` waits
    /// for ever.
    pub fn wait_until_timeout(&self, done: impl FnMut(T) -> bool, timeout: Duration) -> Option<T> {
        self.slot().wait_until_timeout(done, timeout)
    }

    /// As [`wait_until`](Value::wait_until), at most until then; `None` when the time is over.
    pub fn wait_until_deadline(&self, done: impl FnMut(T) -> bool, deadline: Instant) -> Option<T> {
        self.slot().wait_until_deadline(done, deadline)
    }

    /// Waits until it is no longer `old`, and returns what it is; see [`wait_until`](Value::wait_until). Floats are compared
    /// bit by bit.
    ///
    /// It looks at the value, not at how often it was written: what was changed and changed back is as it was.
    pub fn wait_changed(&self, old: T) -> T {
        self.slot().wait_changed(old)
    }

    /// As [`wait_changed`](Value::wait_changed), at most so long; `None` when the time is over.
    pub fn wait_changed_timeout(&self, old: T, timeout: Duration) -> Option<T> {
        self.slot().wait_changed_timeout(old, timeout)
    }

    /// As [`wait_changed`](Value::wait_changed), at most until then; `None` when the time is over.
    pub fn wait_changed_deadline(&self, old: T, deadline: Instant) -> Option<T> {
        self.slot().wait_changed_deadline(old, deadline)
    }
}

impl<T: Number> Value<T> {
    /// Adds to it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_add(&self, by: T) -> T {
        self.slot().fetch_add(by)
    }

    /// Subtracts from it in one step; returns what was there. Integers wrap around.
    #[inline]
    pub fn fetch_sub(&self, by: T) -> T {
        self.slot().fetch_sub(by)
    }

    /// Lowers it to `limit` if it is more, in one step; returns what was there.
    #[inline]
    pub fn fetch_min(&self, limit: T) -> T {
        self.slot().fetch_min(limit)
    }

    /// Raises it to `limit` if it is less, in one step; returns what was there.
    #[inline]
    pub fn fetch_max(&self, limit: T) -> T {
        self.slot().fetch_max(limit)
    }
}

impl<T: Bits> Value<T> {
    /// Keeps the bits that are in `with` too, in one step; returns what was there.
    #[inline]
    pub fn fetch_and(&self, with: T) -> T {
        self.slot().fetch_and(with)
    }

    /// Adds the bits of `with`, in one step; returns what was there.
    #[inline]
    pub fn fetch_or(&self, with: T) -> T {
        self.slot().fetch_or(with)
    }

    /// Turns the bits of `with` round, in one step; returns what was there.
    #[inline]
    pub fn fetch_xor(&self, with: T) -> T {
        self.slot().fetch_xor(with)
    }
}

impl<T: Element> Clone for Value<T> {
    fn clone(&self) -> Value<T> {
        Value { segment: self.segment.clone(), element: PhantomData }
    }
}

impl<T: Element> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.get()).finish()
    }
}

impl<T: Element> AsFd for Value<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

impl<T: Element> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.segment.serialize(serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value<T>, D::Error> {
        let segment = Segment::deserialize_as(deserializer, Self::FORMAT)?;
        if segment.len() != size_of::<T>() {
            return Err(serde::de::Error::custom("a shared value of another size"));
        }
        Ok(Value { segment, element: PhantomData })
    }
}
