//! Elements in a row that several processes share.

use crate::bell;
use crate::element::Element;
use crate::error::during;
use crate::pages::Pages;
use crate::segment::{self, Format, HEADER, Segment};
use crate::slot::Slot;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::os::fd::{AsFd, BorrowedFd};
use std::{fmt, io};

/// Numbers, `bool`s or `char`s in a row that several processes use at once; Python's `Array`.
///
/// Its length is fixed. A clone is the same array, and so is what a child gets as an argument or through a pipe or queue;
/// [`slice`](Array::slice) gives a part of it that can be handed to a child just so. The memory has no name; the kernel frees it
/// with its last user, however that one ends.
///
/// One element is read, written or changed in one atomic step, sequentially consistent, as a [`Value`](crate::Value) is:
/// [`get`](Array::get) and [`set`](Array::set), or [`at`](Array::at) for everything else. No `array[i]` and no `&[T]`: a
/// reference would promise that nobody else writes.
///
/// Many elements at once move at the speed of `memcpy`: [`copy_in`](Array::copy_in), [`copy_out`](Array::copy_out),
/// [`to_vec`](Array::to_vec). These are *not* one step: what others write meanwhile arrives old or new, even byte by byte within
/// an element. Where that matters, agree on who writes when, by a lock or by a [`Value`](crate::Value) set after the copy:
/// whoever sees the new value sees the copied elements too.
///
/// As with slices, [`get`](Array::get) answers `None` beyond the end, and everything else panics there.
///
/// ```
/// let array = mp_shm::Array::from_slice(&[1.0, 2.0, 3.0])?;
/// array.set(1, 20.0);
/// array.at(2).fetch_add(27.0);
/// assert_eq!(array.get(7), None);
/// assert_eq!(array.iter().sum::<f64>(), 51.0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # When a process dies
///
/// - **Changing it:** each element is as it was or as it was to be; a bulk copy may be half done, at an element's border.
/// - **Waiting for an element:** nobody else notices.
/// - The memory goes with its last user.
#[doc(alias = "RawArray")]
#[doc(alias = "SynchronizedArray")]
pub struct Array<T: Element> {
    segment: Segment,
    /// The elements of the segment that this handle shows; always inside of it.
    range: Range<usize>,
    element: PhantomData<T>,
}

impl<T: Element> Array<T> {
    const FORMAT: Format = Format::element::<T>(*b"ARRY", 2);

    /// Makes an array of `len` elements in new shared memory, all zero (`false`, `'\0'`).
    ///
    /// # Errors
    ///
    /// When there is not that much memory (now, not by a signal later), or no descriptor left.
    pub fn new(len: usize) -> io::Result<Array<T>> {
        Array::made_by(Segment::create, len)
    }

    /// Makes an array of `len` zeroed elements, in huge pages where there are some: good for many megabytes that are read here
    /// and there. [`pages`](Array::pages) tells whether there were.
    ///
    /// # Errors
    ///
    /// As [`new`](Array::new); that there are no huge pages is no error.
    pub fn with_huge_pages(len: usize) -> io::Result<Array<T>> {
        Array::made_by(Segment::create_huge, len)
    }

    fn made_by(make: fn(Format, usize) -> io::Result<Segment>, len: usize) -> io::Result<Array<T>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| io::ErrorKind::OutOfMemory.into());
        let segment = bytes.and_then(|bytes| make(Self::FORMAT, bytes));
        let segment = during(segment, || format!("make a shared array of {len} elements"))?;
        Ok(Array { segment, range: 0..len, element: PhantomData })
    }

    /// Which pages lie under it; see [`with_huge_pages`](Array::with_huge_pages).
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.segment.pages()
    }

    /// Maps every page of the whole array into this process now, where it would otherwise be mapped when it is first touched.
    ///
    /// The memory itself is there from the start; this spares the first access of each page a page fault, in this process.
    ///
    /// # Errors
    ///
    /// When there is no memory for the page tables.
    pub fn prefault(&self) -> io::Result<()> {
        during(self.segment.prefault(), || "prefault a shared array".into())
    }

    /// Makes an array with these elements in new shared memory.
    ///
    /// # Errors
    ///
    /// As [`new`](Array::new).
    pub fn from_slice(elements: &[T]) -> io::Result<Array<T>> {
        let array = Array::new(elements.len())?;
        array.copy_in(0, elements);
        Ok(array)
    }

    /// How many elements; never changes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Where the element lies in the mapping; `index` was checked.
    #[inline]
    fn offset(&self, index: usize) -> usize {
        HEADER + (self.range.start + index) * size_of::<T>()
    }

    #[inline]
    fn slot(&self, index: usize) -> Slot<'_, T> {
        let bell = segment::bell(self.range.start + index);
        Slot::with_bell(self.segment.map(), self.offset(index), bell)
    }

    /// Reads the element at `index`; `None` beyond the end.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<T> {
        (index < self.len()).then(|| self.slot(index).get())
    }

    /// Writes the element at `index`.
    ///
    /// # Panics
    ///
    /// Beyond the end, as `slice[index] = value` does.
    #[inline]
    #[track_caller]
    pub fn set(&self, index: usize, value: T) {
        self.at(index).set(value);
    }

    /// The element at `index`, to change it in one step: `array.at(3).fetch_add(1)`.
    ///
    /// # Panics
    ///
    /// Beyond the end, as `slice[index]` does.
    #[inline]
    #[must_use]
    #[track_caller]
    pub fn at(&self, index: usize) -> Slot<'_, T> {
        assert!(index < self.len(), "index {index} is out of range for a shared array of {}", self.len());
        self.slot(index)
    }

    /// All elements in order, each read when the iterator comes to it: others may write meanwhile.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { array: self, left: 0..self.len() }
    }

    /// A copy of all elements; see [`copy_out`](Array::copy_out).
    #[must_use]
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::ZERO; self.len()];
        self.copy_out(0, &mut elements);
        elements
    }

    /// Writes `elements` from index `start` on, at the speed of `memcpy` and not in one step.
    ///
    /// # Panics
    ///
    /// When they do not fit; nothing is written then.
    #[track_caller]
    pub fn copy_in(&self, start: usize, elements: &[T]) {
        self.check(start, elements.len());
        self.segment.map().copy_in(self.offset(start), bytemuck::cast_slice(elements));
        self.changed_in_bulk();
    }

    /// Reads elements from index `start` on until `out` is full, at the speed of `memcpy` and not in one step.
    ///
    /// # Panics
    ///
    /// When there are not that many; `out` is unchanged then.
    #[track_caller]
    pub fn copy_out(&self, start: usize, out: &mut [T]) {
        self.check(start, out.len());
        T::copy_out(self.segment.map(), self.offset(start), out);
    }

    /// Writes `value` to every element, one after the other: each is old or new, never half.
    pub fn fill(&self, value: T) {
        (0..self.len()).for_each(|index| self.slot(index).fill(value));
        self.changed_in_bulk();
    }

    /// Wakes whoever waits for an element of the whole array: which of them have changed is not worth telling apart.
    fn changed_in_bulk(&self) {
        let bells: [_; segment::BELL_COUNT] =
            std::array::from_fn(|index| self.segment.map().atomic_u32(segment::bell(index)));
        bell::changed_in_bulk(&bells);
    }

    /// A part of the array: the same memory, and an array of its own right, which can be sent to another process.
    ///
    /// It is a view, not a fence: whoever receives it holds the memory of the whole array.
    ///
    /// ```
    /// let all = mp_shm::Array::<u16>::new(100)?;
    /// let part = all.slice(90..);
    /// part.fill(7);
    /// assert_eq!((part.len(), all.get(89), all.get(90)), (10, Some(0), Some(7)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the range does not lie inside, as `&slice[range]` does.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Array<T> {
        let start = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => Some(self.len()),
        };
        let (start, end) = (start.unwrap_or(usize::MAX), end.unwrap_or(usize::MAX));
        assert!(start <= end, "range {start}..{end} of a shared array ends before it starts");
        self.check(start, end - start);
        let range = self.range.start + start..self.range.start + end;
        Array { segment: self.segment.clone(), range, element: PhantomData }
    }

    #[track_caller]
    fn check(&self, start: usize, count: usize) {
        let inside = start.checked_add(count).is_some_and(|end| end <= self.len());
        assert!(
            inside,
            "{count} elements from index {start} on are out of range for a shared array of {}",
            self.len()
        );
    }
}

impl<T: Element> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array { segment: self.segment.clone(), range: self.range.clone(), element: PhantomData }
    }
}

impl<T: Element> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<T: Element> AsFd for Array<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

impl<T: Element> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.segment, self.range.start, self.range.end).serialize(serializer)
    }
}

impl<'de, T: Element> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Array<T>, D::Error> {
        let (Whole(segment, _), start, end) = <(Whole<T>, usize, usize)>::deserialize(deserializer)?;
        let len = segment.len() / size_of::<T>();
        if start > end || end > len || !segment.len().is_multiple_of(size_of::<T>()) {
            return Err(serde::de::Error::custom("a part of a shared array that lies outside of it"));
        }
        Ok(Array { segment, range: start..end, element: PhantomData })
    }
}

/// The segment of an array, checked to hold elements of type `T`.
struct Whole<T>(Segment, PhantomData<T>);

impl<'de, T: Element> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole<T>, D::Error> {
        Segment::deserialize_as(deserializer, Array::<T>::FORMAT).map(|segment| Whole(segment, PhantomData))
    }
}

impl<'a, T: Element> IntoIterator for &'a Array<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The elements of an [`Array`] in order; see [`Array::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a, T: Element> {
    array: &'a Array<T>,
    left: Range<usize>,
}

impl<T: Element> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left.next().map(|index| self.array.slot(index).get())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<T> {
        self.left.nth(n).map(|index| self.array.slot(index).get())
    }
}

impl<T: Element> DoubleEndedIterator for Iter<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        self.left.next_back().map(|index| self.array.slot(index).get())
    }
}

impl<T: Element> ExactSizeIterator for Iter<'_, T> {}

impl<T: Element> FusedIterator for Iter<'_, T> {}
