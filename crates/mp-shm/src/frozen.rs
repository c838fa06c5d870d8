//! Plain data, written once and then read by everybody.
//!
//! A frozen slice is a memfd in three states; each arrow is one step, and death at any of them frees the memory:
//!
//! | state | mappings | seals | who has the descriptor |
//! | --- | --- | --- | --- |
//! | writing | one writable, not inherited by forked children | none | the writer alone |
//! | unmapped | none | none | the writer alone |
//! | frozen | read-only ones | WRITE, SHRINK, GROW, SEAL | anybody |
//!
//! Invariants: (1) a `Frozen` exists only over a descriptor that has these seals; the kernel grants WRITE only when no writable
//! mapping exists and allows none afterwards, so the bytes never change again and `&[T]` is sound in every process.
//! (2) Whoever receives one checks the seals before it maps, and the header after. (3) The payload starts at a
//! multiple of [`HEADER`] bytes of a page, which no accepted alignment exceeds.

#![expect(
    unsafe_code,
    reason = "the slices: of memory that nobody else has yet, and of memory that is sealed"
)]

use crate::element::sealed::Stored;
use crate::error::during;
use crate::mapping::Mapping;
use crate::pages::{self, Huge, Pages};
use crate::segment::{self, Format, HEADER, invalid};
use crate::sys;
use bytemuck::Pod;
use memmap2::MmapOptions;
use mp_core::{Handle, step};
use rustix::fs::SealFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::TypeId;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::{fmt, io};

/// What makes a slice frozen.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

/// A slice of plain data that was written once and is the same in every process: bytes, numbers, or structs of them.
///
/// It derefs to `&[T]`, without a copy, in every process that gets it; sending it takes the same time for a byte as for
/// gigabytes. The kernel holds the promise that nobody changes it: the memory is sealed against writing before anybody else
/// sees it, and a receiver accepts nothing that is not. The memory has no name; the kernel frees it with its last
/// user, however that one ends.
///
/// `T` is any [`bytemuck::Pod`] type of at most 64 bytes' alignment: numbers, arrays of them, structs that derive it. A receiver
/// must ask for the same number type; of other types the size and alignment are compared.
///
/// ```
/// use mp_shm::Frozen;
///
/// let squares = Frozen::build(1000, |squares: &mut [u64]| {
///     for (number, square) in (0..).zip(squares) {
///         *square = number * number;
///     }
/// })?;
/// assert_eq!(squares[20], 400);
/// assert_eq!(squares.iter().filter(|square| *square % 2 == 0).count(), 500);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # When a process dies
///
/// - **Writing it**, before it is frozen: nothing is left. **Reading it:** nobody else notices. The memory goes with its last user.
pub struct Frozen<T: Pod> {
    fd: Handle,
    map: Arc<Mapping>,
    len: usize,
    pages: Pages,
    element: PhantomData<T>,
}

impl<T: Pod> Frozen<T> {
    /// Freezes a copy of `elements`.
    ///
    /// # Errors
    ///
    /// When there is not that much memory (now, not by a signal later), or no descriptor left.
    pub fn from_slice(elements: &[T]) -> io::Result<Frozen<T>> {
        let write = || {
            let (fd, _) = make::<T>(elements.len())?;
            // Written through the descriptor: there is no writable mapping at any time.
            sys::write_at(&fd, bytemuck::cast_slice(elements), HEADER as u64)?;
            step!("shm.freeze", 1);
            sys::seal(&fd, SEALS | SealFlags::SEAL)?;
            step!("shm.freeze", 2);
            Frozen::open(fd)
        };
        during(write(), || format!("freeze {} elements", elements.len()))
    }

    /// Freezes `len` elements, which are zero when `write` gets them.
    ///
    /// # Errors
    ///
    /// As [`from_slice`](Frozen::from_slice).
    pub fn build(len: usize, write: impl FnOnce(&mut [T])) -> io::Result<Frozen<T>> {
        let mut writer = FrozenWriter::new(len)?;
        write(&mut writer);
        writer.freeze()
    }

    /// The slice that came as a descriptor, if it is one.
    fn open(fd: OwnedFd) -> io::Result<Frozen<T>> {
        if !sys::seals(&fd).is_ok_and(|seals| seals.contains(SEALS)) {
            return Err(invalid("it is not sealed against writing"));
        }
        // From here on neither size nor bytes can change, so what is checked stays true.
        let size = segment::size_of_file(&fd)?;
        let map = Mapping::new(MmapOptions::new().len(size).map_raw_read_only(&fd)?);
        let payload = segment::check_format(&map, format::<T>())?;
        pages::check_size(&map, payload + HEADER)?;
        if !payload.is_multiple_of(size_of::<T>()) {
            return Err(invalid("its size does not fit its elements"));
        }
        let (map, pages) = pages::laid_out(&fd, map, false)?;
        let len = payload / size_of::<T>();
        Ok(Frozen { fd: Handle::from(fd), map: Arc::new(map), len, pages, element: PhantomData })
    }

    /// Maps every page into this process now, where it would otherwise be mapped when it is first touched.
    ///
    /// # Errors
    ///
    /// When there is no memory for the page tables.
    pub fn prefault(&self) -> io::Result<()> {
        during(self.map.prefault(), || "prefault a frozen slice".into())
    }

    /// Which pages lie under it; see [`FrozenWriter::with_huge_pages`].
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }
}

impl<T: Pod> Deref for Frozen<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let start = self.map.as_ptr().wrapping_add(HEADER).cast::<T>();
        // SAFETY: `open` checked that the mapping holds `len` elements behind the header; it is aligned by invariant 3, any
        // pattern is a valid `Pod`, and nobody changes it by invariant 1. The mapping lives as long as `self`.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl<T: Pod> AsRef<[T]> for Frozen<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> Clone for Frozen<T> {
    fn clone(&self) -> Frozen<T> {
        let Frozen { fd, map, len, pages, element } = self;
        Frozen { fd: fd.clone(), map: Arc::clone(map), len: *len, pages: *pages, element: *element }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Frozen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl<T: Pod> AsFd for Frozen<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T: Pod> Serialize for Frozen<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fd.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Frozen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Frozen<T>, D::Error> {
        let fd = mp_core::handle::deserialize_fd(deserializer)?;
        Frozen::open(fd).map_err(serde::de::Error::custom)
    }
}

/// A slice that is being written and will be [frozen](FrozenWriter::freeze); derefs to `&mut [T]`, zero at first.
///
/// Nobody else sees it before. Dropped instead, it leaves nothing.
///
/// ```
/// let mut file = std::io::Cursor::new(b"a file of known size");
/// let mut writer = mp_shm::FrozenWriter::<u8>::new(20)?;
/// std::io::copy(&mut file, &mut &mut writer[..])?;
/// assert_eq!(&*writer.freeze()?, b"a file of known size");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FrozenWriter<T: Pod> {
    fd: OwnedFd,
    map: Mapping,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> FrozenWriter<T> {
    /// Makes room for `len` elements.
    ///
    /// # Errors
    ///
    /// When there is not that much memory (now, not by a signal later), or no descriptor left.
    pub fn new(len: usize) -> io::Result<FrozenWriter<T>> {
        let make = || {
            let (fd, size) = make::<T>(len)?;
            let map = Mapping::new(segment::map(&fd, 0, size)?);
            // A child that another thread forks meanwhile would otherwise keep a writable mapping, and the seal away.
            map.keep_from_forks()?;
            Ok(FrozenWriter { fd, map, len, element: PhantomData })
        };
        during(make(), || format!("make room for {len} elements to freeze"))
    }

    /// Makes room for `len` elements, in huge pages where there are some: good for many megabytes that are read here and
    /// there. [`Frozen::pages`] tells whether there were.
    ///
    /// # Errors
    ///
    /// As [`new`](FrozenWriter::new); that there are no huge pages is no error.
    pub fn with_huge_pages(len: usize) -> io::Result<FrozenWriter<T>> {
        let make = || {
            let (payload, size) = sizes::<T>(len)?;
            let Huge { fd, map, pages } = pages::make("mp-frozen", size)?;
            map.keep_from_forks()?;
            segment::write_header(&map, format::<T>(), payload as u64);
            pages::write(&map, pages);
            Ok(FrozenWriter { fd, map, len, element: PhantomData })
        };
        during(make(), || format!("make room for {len} elements to freeze, in huge pages"))
    }

    /// Maps every page into this process now, where it would otherwise be mapped when it is first written.
    ///
    /// # Errors
    ///
    /// When there is no memory for the page tables.
    pub fn prefault(&self) -> io::Result<()> {
        during(self.map.prefault(), || "prefault memory to freeze".into())
    }

    /// Freezes what was written.
    ///
    /// # Errors
    ///
    /// When no descriptor or address space is left.
    pub fn freeze(self) -> io::Result<Frozen<T>> {
        let freeze = || {
            let FrozenWriter { fd, map, len: _, element: _ } = self;
            step!("shm.freeze", 3);
            drop(map);
            step!("shm.freeze", 4);
            let sealed = match sys::seal(&fd, SEALS | SealFlags::SEAL) {
                // A child was forked in the instant before `DontFork` and still has the mapping.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sealed_copy(&fd)?,
                other => other.map(|()| fd)?,
            };
            step!("shm.freeze", 5);
            Frozen::open(sealed)
        };
        during(freeze(), || "freeze shared memory".into())
    }
}

impl<T: Pod> FrozenWriter<T> {
    #[inline]
    fn start(&self) -> *mut T {
        self.map.as_ptr().wrapping_add(HEADER).cast()
    }
}

impl<T: Pod> Deref for FrozenWriter<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the file has room for `len` elements behind the header and is mapped whole; aligned by invariant 3; any pattern
        // is a valid `Pod`. Nobody else has the descriptor or the mapping, and only `deref_mut` writes.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T: Pod> DerefMut for FrozenWriter<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl<T: Pod> fmt::Debug for FrozenWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The sizes of `len` elements and of the file that holds them.
fn sizes<T: Pod>(len: usize) -> io::Result<(usize, usize)> {
    const {
        assert!(size_of::<T>() > 0, "elements without a size cannot be frozen");
        assert!(align_of::<T>() <= HEADER, "elements aligned to more than 64 bytes cannot be frozen");
    }
    let payload = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
    let size = payload.checked_add(HEADER).ok_or(io::ErrorKind::OutOfMemory)?;
    Ok((payload, size))
}

/// A file for `len` elements, header written, the rest zero and really there; and its size.
fn make<T: Pod>(len: usize) -> io::Result<(OwnedFd, usize)> {
    let (payload, size) = sizes::<T>(len)?;
    let fd = sys::create("mp-frozen")?;
    sys::allocate(&fd, 0, size as u64)?;
    sys::write_at(&fd, &segment::header(format::<T>(), payload as u64), 0)?;
    Ok((fd, size))
}

/// How often a file that is nobody else's is sealed before it counts as busy.
const SEAL_TRIES: usize = 20;

/// Copies a file to a new one, which nobody has mapped, and seals that.
fn sealed_copy(from: &OwnedFd) -> io::Result<OwnedFd> {
    let size = sys::size(from)?;
    let to = sys::create("mp-frozen")?;
    sys::allocate(&to, 0, size)?;
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < size {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..], done))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sys::write_at(&to, &buffer[..read], done)?;
        done += read as u64;
    }
    // Nobody has it mapped, but the kernel itself may hold a page for a moment, while it moves or inspects it.
    let mut tries = 1;
    loop {
        match sys::seal(&to, SEALS | SealFlags::SEAL) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < SEAL_TRIES => tries += 1,
            other => return other.map(|()| to),
        }
    }
}

/// What stands in the header: which number type it is, or the alignment of another type.
#[expect(clippy::cast_possible_truncation, reason = "checked at compile time")]
fn format<T: Pod>() -> Format {
    const { assert!(size_of::<T>() <= u32::MAX as usize, "an element is larger than 4 GiB") };
    let element = number_code(TypeId::of::<T>()).unwrap_or(1 << 31 | align_of::<T>() as u32);
    Format { kind: *b"FROZ", version: 1, element, element_size: size_of::<T>() as u32 }
}

fn number_code(id: TypeId) -> Option<u32> {
    macro_rules! find {
        ($($number:ty)*) => {
            [$((TypeId::of::<$number>(), <$number as Stored>::CODE)),*].into_iter().find(|(of, _)| *of == id)
        };
    }
    let found = find!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize f32 f64);
    found.map(|(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_mapping_that_a_forked_child_kept_does_not_keep_it_from_freezing() {
        let mut writer = FrozenWriter::<u32>::new(700_000).unwrap();
        writer[699_999] = 7;
        let inherited = MmapOptions::new().map_raw(&writer.fd).unwrap();
        assert!(sys::seal(&writer.fd, SEALS).is_err());
        let frozen = writer.freeze().unwrap();
        assert_eq!((frozen.len(), frozen[699_998], frozen[699_999]), (700_000, 0, 7));
        drop(inherited);
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let refusal = |fd| Frozen::<u8>::open(fd).unwrap_err().to_string();
        let (fd, _) = make::<u8>(100).unwrap();
        assert!(refusal(fd).contains("sealed against writing"));
        let (fd, _) = make::<u8>(100).unwrap();
        sys::seal(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert!(refusal(fd).contains("sealed against writing"));
        let (fd, _) = make::<u8>(100).unwrap();
        sys::seal(&fd, SealFlags::WRITE | SealFlags::SHRINK).unwrap();
        assert!(refusal(fd).contains("sealed against writing"));
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(refusal(file).contains("sealed against writing"));
    }

    #[test]
    fn what_is_sealed_and_of_another_size_or_type_is_refused() {
        let grown = || {
            let (fd, _) = make::<u8>(100).unwrap();
            sys::allocate(&fd, 0, 5000).unwrap();
            sys::seal(&fd, SEALS).unwrap();
            fd
        };
        assert!(Frozen::<u8>::open(grown()).unwrap_err().to_string().contains("size"));
        let frozen = Frozen::from_slice(&[1.0_f64, 2.0]).unwrap();
        let dup = || frozen.as_fd().try_clone_to_owned().unwrap();
        assert!(Frozen::<u64>::open(dup()).is_err());
        assert!(Frozen::<f32>::open(dup()).is_err());
        assert!(Frozen::<[f64; 2]>::open(dup()).is_err());
        assert_eq!(&*Frozen::<f64>::open(dup()).unwrap(), [1.0, 2.0]);
    }
}
