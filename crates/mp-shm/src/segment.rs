//! Anonymous segments: memory without a name, sealed to its size, that travels as a handle.
//!
//! The kernel frees it with its last user, however that one ends. A segment starts with a [`HEADER`]-byte header that says
//! what is inside; whoever receives one checks it before the first access:
//!
//! | bytes | field |
//! | --- | --- |
//! | 0..8 | magic, with the layout version of the header |
//! | 8..12 | kind: four letters, such as `VALU` |
//! | 12..16 | version of that kind's layout |
//! | 16..20 | element type code |
//! | 20..24 | element size |
//! | 24..32 | payload length |
//! | 32..40 | pid namespace of the creator |
//! | 40..56 | four [bells](crate::bell), in values and arrays |
//! | 56..64 | which [pages](crate::Pages) lie under it: bytes in transparent huge ones; or the size of a reserved one, with the highest bit |
//!
//! A segment may also be a part of named memory, at a place that its user chose. There the first word is in one of these states:
//!
//! | first word | means | next |
//! | --- | --- | --- |
//! | the magic | made | – |
//! | the identity of a living process | being made | the magic, by that process |
//! | anything else | nothing is there, or its maker has died | an identity, by one exchange |
//!
//! Steps of `place`: (1) the word claimed, (2) everything written but the word, (3) the magic stored with Release. Whoever opens
//! it reads the magic with Acquire, so what is seen at all is seen whole.

use crate::SharedMemory;
use crate::element::sealed::Stored;
use crate::mapping::Mapping;
use crate::pages::{self, Huge, Pages};
use crate::shared_memory::Descriptor;
use crate::sys;
use memmap2::{MmapOptions, MmapRaw};
use mp_core::{Handle, Identity, identity, step};
use rustix::fs::SealFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Bytes before the payload.
pub const HEADER: usize = 64;

/// Where the four bells lie.
const BELLS: usize = 40;

/// Where the bell of the element at `index` lies: neighbours have different ones.
#[inline]
pub(crate) const fn bell(index: usize) -> usize {
    BELLS + index % BELL_COUNT * 4
}

/// How many bells there are.
pub(crate) const BELL_COUNT: usize = 4;

const MAGIC: u64 = u64::from_ne_bytes(*b"mpshm\x00\x00\x01");

/// What a segment holds; a receiver states what it expects and gets an error for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Four letters for the kind of thing.
    pub kind: [u8; 4],
    /// Version of that kind's layout.
    pub version: u32,
    /// A code for the element's type; zero where there is none.
    pub element: u32,
    /// The element's size in bytes; zero where there is none.
    pub element_size: u32,
}

impl Format {
    /// A format without elements.
    #[must_use]
    pub const fn plain(kind: [u8; 4], version: u32) -> Format {
        Format { kind, version, element: 0, element_size: 0 }
    }

    /// A format of elements of type `T`.
    #[must_use]
    pub(crate) const fn element<T: Stored>(kind: [u8; 4], version: u32) -> Format {
        #[expect(clippy::cast_possible_truncation, reason = "an element has at most eight bytes")]
        let element_size = size_of::<T>() as u32;
        Format { kind, version, element: T::CODE, element_size }
    }
}

/// Shared memory of a fixed size: anonymous, or a part of named memory.
///
/// Cloning shares it within this process; as an argument of a process, or in a message, it is the same memory there.
#[derive(Clone)]
pub struct Segment(Arc<Inner>);

struct Inner {
    fd: Handle,
    map: Mapping,
    /// Of the payload; the mapping may be longer, up to whole huge pages.
    length: usize,
    format: Format,
    pages: Pages,
    /// The named memory that it is a part of, and where.
    place: Option<(SharedMemory, usize)>,
}

impl Segment {
    /// Makes `length` zeroed bytes of shared memory, really there and sealed to that size.
    ///
    /// # Errors
    ///
    /// When there is not that much memory (now, not by a signal later), or no descriptors are left.
    pub fn create(format: Format, length: usize) -> io::Result<Segment> {
        let total = HEADER.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
        let fd = sys::create("mp-segment")?;
        sys::allocate(&fd, 0, total as u64)?;
        pages::seal_size(&fd)?;
        let map = Mapping::new(map(&fd, 0, total)?);
        write_header(&map, format, length as u64);
        Ok(Segment::of(fd, map, length, format, Pages::Ordinary))
    }

    /// As [`create`](Segment::create), in huge pages where there are some.
    ///
    /// # Errors
    ///
    /// As [`create`](Segment::create).
    pub fn create_huge(format: Format, length: usize) -> io::Result<Segment> {
        let total = HEADER.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
        let Huge { fd, map, pages } = pages::make("mp-segment", total)?;
        pages::seal_size(&fd)?;
        write_header(&map, format, length as u64);
        pages::write(&map, pages);
        Ok(Segment::of(fd, map, length, format, pages))
    }

    fn of(fd: OwnedFd, map: Mapping, length: usize, format: Format, pages: Pages) -> Segment {
        Segment(Arc::new(Inner { fd: Handle::from(fd), map, length, format, pages, place: None }))
    }

    /// Makes a segment of `length` bytes at `offset` of named memory, which takes [`HEADER`] more; `build` fills the zeroed
    /// bytes before anybody can open it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `ResourceBusy` while another process makes one there, `InvalidInput` when it
    /// does not fit or `offset` is no multiple of 64; else what `build` says.
    pub fn place(
        memory: &SharedMemory,
        offset: usize,
        format: Format,
        length: usize,
        build: impl FnOnce(&Mapping) -> io::Result<()>,
    ) -> io::Result<Segment> {
        let total = HEADER.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Mapping::part(memory, offset, total).ok_or_else(|| misplaced(memory, offset, total))?;
        claim(&map)?;
        step!("shm.place", 1);
        map.fill(HEADER, length);
        let built = build(&map);
        if let Err(error) = built {
            map.atomic_u64(0).store(0, Release);
            return Err(error);
        }
        map.copy_in(8, &header(format, length as u64)[8..]);
        step!("shm.place", 2);
        map.atomic_u64(0).store(MAGIC, Release);
        step!("shm.place", 3);
        Ok(Segment::part(memory, offset, map, format))
    }

    /// Opens the segment at `offset` of named memory, if it holds what `format` says.
    ///
    /// # Errors
    ///
    /// `NotFound` when nothing was made there (yet), `InvalidData` when it is something else.
    pub fn open_at(memory: &SharedMemory, offset: usize, format: Format) -> io::Result<Segment> {
        let head = Mapping::part(memory, offset, HEADER).ok_or_else(|| misplaced(memory, offset, HEADER))?;
        if head.atomic_u64(0).load(Acquire) != MAGIC {
            let text =
                format!("nothing was made at offset {offset} of shared memory `{}` yet", memory.name());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let payload = usize::try_from(head.atomic_u64(24).load(Relaxed)).ok();
        let total = payload.and_then(|payload| payload.checked_add(HEADER));
        let map = total.and_then(|total| Mapping::part(memory, offset, total));
        let map = map.ok_or_else(|| invalid("its size is not what its header says"))?;
        check_header(&map, format, map.len())?;
        Ok(Segment::part(memory, offset, map, format))
    }

    fn part(memory: &SharedMemory, offset: usize, map: Mapping, format: Format) -> Segment {
        let fd = memory.handle().clone();
        let (length, place) = (map.len() - HEADER, Some((memory.clone(), offset)));
        Segment(Arc::new(Inner { fd, map, length, format, pages: Pages::Ordinary, place }))
    }

    /// Whether it is a part of named memory.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.0.place.is_some()
    }

    /// Opens a segment that came from elsewhere, if it holds what `format` says.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is not such a segment: no memfd, not sealed to its size, another kind, version or element.
    pub fn open(fd: OwnedFd, format: Format) -> io::Result<Segment> {
        let needed = SealFlags::SHRINK | SealFlags::GROW;
        if !sys::seals(&fd).is_ok_and(|seals| seals.contains(needed)) {
            return Err(invalid("it is not sealed to its size"));
        }
        // From here on the size cannot change, so what is checked stays true.
        let size = size_of_file(&fd)?;
        let map = Mapping::new(map(&fd, 0, size)?);
        let payload = check_format(&map, format)?;
        pages::check_size(&map, payload + HEADER)?;
        let (map, pages) = pages::laid_out(&fd, map, true)?;
        Ok(Segment::of(fd, map, payload, format, pages))
    }

    /// How many bytes the payload has.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.length
    }

    /// Whether the payload has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is inside.
    #[must_use]
    pub fn format(&self) -> Format {
        self.0.format
    }

    /// Which pages lie under it.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.0.pages
    }

    /// Maps every page into this process now, where it would otherwise be mapped when it is first touched.
    ///
    /// # Errors
    ///
    /// When there is no memory for the page tables.
    pub fn prefault(&self) -> io::Result<()> {
        self.map().prefault()
    }

    /// The whole mapping; the payload starts at [`HEADER`].
    #[inline]
    #[must_use]
    pub fn map(&self) -> &Mapping {
        &self.0.map
    }

    /// How many handles to this mapping this process has.
    #[must_use]
    pub fn users_here(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Whether the creator saw the same pids as this process; types that record owners refuse others.
    #[must_use]
    pub fn same_pid_namespace(&self) -> bool {
        self.map().atomic_u64(32).load(Relaxed) == identity::pid_namespace()
    }

    /// The same memory, already open in this process.
    #[must_use]
    pub fn same_memory(&self, other: &Segment) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Opens the handle as a segment that holds `format`, for a `Deserialize` of a type over a segment.
    ///
    /// # Errors
    ///
    /// As [`open`](Segment::open).
    pub fn deserialize_as<'de, D: Deserializer<'de>>(
        deserializer: D,
        format: Format,
    ) -> Result<Segment, D::Error> {
        match Received::deserialize(deserializer)? {
            Received::Whole(fd) => Segment::open(fd.0, format),
            Received::Part(memory, offset) => usize::try_from(offset)
                .map_err(|_| invalid("its place is outside of the address space"))
                .and_then(|offset| Segment::open_at(&memory, offset, format)),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = String::from_utf8_lossy(&self.0.format.kind).into_owned();
        f.debug_struct("Segment").field("kind", &kind).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.place {
            None => Sent::Whole(&self.0.fd).serialize(serializer),
            Some((memory, offset)) => Sent::Part(memory, *offset as u64).serialize(serializer),
        }
    }
}

/// A segment in a message.
#[derive(Serialize)]
enum Sent<'a> {
    Whole(&'a Handle),
    Part(&'a SharedMemory, u64),
}

/// The same, as it arrives.
#[derive(Deserialize)]
enum Received {
    Whole(Descriptor),
    Part(SharedMemory, u64),
}

/// Makes this process the maker of the segment in `map`.
fn claim(map: &Mapping) -> io::Result<()> {
    let (word, me) = (map.atomic_u64(0), Identity::current().pack());
    let mut now = word.load(Acquire);
    loop {
        if now == MAGIC {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something was made there already"));
        }
        if now != 0 && Identity::packed_is_alive(now) {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "something is being made there just now",
            ));
        }
        match word.compare_exchange(now, me, AcqRel, Acquire) {
            Ok(_) => return Ok(()),
            Err(found) => now = found,
        }
    }
}

fn misplaced(memory: &SharedMemory, offset: usize, total: usize) -> io::Error {
    let text = format!(
        "{total} bytes at offset {offset} of shared memory `{}`, which has {}: the offset is a multiple of {}, and all lie inside",
        memory.name(),
        memory.len(),
        Mapping::ALIGN
    );
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not the shared memory that was expected: {what}"))
}

pub(crate) fn map(fd: &OwnedFd, offset: u64, length: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().offset(offset).len(length).map_raw(fd)
}

/// The bytes of a header.
pub(crate) fn header(format: Format, payload: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC.to_ne_bytes());
    bytes[8..12].copy_from_slice(&format.kind);
    bytes[12..16].copy_from_slice(&format.version.to_ne_bytes());
    bytes[16..20].copy_from_slice(&format.element.to_ne_bytes());
    bytes[20..24].copy_from_slice(&format.element_size.to_ne_bytes());
    bytes[24..32].copy_from_slice(&payload.to_ne_bytes());
    bytes[32..40].copy_from_slice(&identity::pid_namespace().to_ne_bytes());
    bytes
}

/// Writes the header of memory that nobody else has yet: whoever gets the handle gets it through the kernel
/// afterwards, which orders the two.
pub(crate) fn write_header(map: &Mapping, format: Format, payload: u64) {
    map.copy_in(0, &header(format, payload));
}

/// How large the file is, as far as it can be mapped and has a header.
pub(crate) fn size_of_file(fd: &OwnedFd) -> io::Result<usize> {
    let size = usize::try_from(sys::size(fd)?).map_err(|_| invalid("it is larger than the address space"))?;
    if size < HEADER {
        return Err(invalid("it is too small to have a header"));
    }
    Ok(size)
}

/// The length of the payload, if the header says `format` and a length that is one.
pub(crate) fn check_format(map: &Mapping, format: Format) -> io::Result<usize> {
    if map.atomic_u64(0).load(Relaxed) != MAGIC {
        return Err(invalid("its header is missing or of another version"));
    }
    let found = Format {
        kind: map.atomic_u32(8).load(Relaxed).to_ne_bytes(),
        version: map.atomic_u32(12).load(Relaxed),
        element: map.atomic_u32(16).load(Relaxed),
        element_size: map.atomic_u32(20).load(Relaxed),
    };
    if found != format {
        return Err(invalid(&format!("it holds {found:?}, expected {format:?}")));
    }
    let payload = usize::try_from(map.atomic_u64(24).load(Relaxed)).ok();
    payload
        .filter(|payload| *payload <= map.len() - HEADER)
        .ok_or_else(|| invalid("its size is not what its header says"))
}

/// Checks a header over exactly `size` bytes.
pub(crate) fn check_header(map: &Mapping, format: Format, size: usize) -> io::Result<()> {
    if check_format(map, format)? + HEADER != size {
        return Err(invalid("its size is not what its header says"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format::plain(*b"TEST", 1);

    fn dup(segment: &Segment) -> OwnedFd {
        segment.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn a_segment_is_zeroed_and_opens_as_the_same_memory() {
        let one = Segment::create(FORMAT, 100).unwrap();
        assert_eq!(one.map().atomic_u32(HEADER).load(Relaxed), 0);
        let two = Segment::open(dup(&one), FORMAT).unwrap();
        one.map().atomic_u32(HEADER).store(7, Relaxed);
        assert_eq!((two.map().atomic_u32(HEADER).load(Relaxed), two.len()), (7, 100));
        assert!(two.same_pid_namespace());
    }

    #[test]
    fn what_is_not_expected_is_refused() {
        let segment = Segment::create(FORMAT, 100).unwrap();
        let other = Segment::open(dup(&segment), Format::plain(*b"TEST", 2)).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::InvalidData);
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(Segment::open(file, FORMAT).unwrap_err().to_string().contains("sealed"));
        let unsealed = sys::create("mp-test").unwrap();
        sys::allocate(&unsealed, 0, 4096).unwrap();
        assert!(Segment::open(unsealed, FORMAT).unwrap_err().to_string().contains("sealed"));
        let empty = sys::create("mp-test").unwrap();
        sys::allocate(&empty, 0, 4096).unwrap();
        sys::seal(&empty, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        assert!(Segment::open(empty, FORMAT).unwrap_err().to_string().contains("header"));
    }

    #[test]
    fn memory_in_huge_pages_is_a_segment_like_any_other() {
        for length in [1, 5 << 20] {
            let one = Segment::create_huge(FORMAT, length).unwrap();
            let two = Segment::open(dup(&one), FORMAT).unwrap();
            assert_eq!((two.len(), two.pages()), (length, one.pages()));
            two.prefault().unwrap();
            one.map().atomic_u8(HEADER + length - 1).store(7, Relaxed);
            assert_eq!(two.map().atomic_u8(HEADER + length - 1).load(Relaxed), 7);
            assert!(rustix::fs::ftruncate(&one, 64 << 20).is_err());
        }
    }

    #[test]
    fn the_size_cannot_change() {
        let segment = Segment::create(FORMAT, 100).unwrap();
        assert!(rustix::fs::ftruncate(&segment, 0).is_err());
        assert!(rustix::fs::ftruncate(&segment, 1 << 20).is_err());
    }
}
