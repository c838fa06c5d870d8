//! Mapped bytes that other processes may write at any time.

#![expect(
    unsafe_code,
    reason = "the typed views of shared bytes: bounds and alignment are checked here, once"
)]

mod copy;

use crate::SharedMemory;
use ::shared_memory::Shmem;
use memmap2::MmapRaw;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::{fmt, io, ptr};

/// `madvise(2)`, since Linux 6.1; not in `rustix`.
const MADV_COLLAPSE: libc::c_int = 25;

/// A view of mapped bytes that other processes may write at any time.
///
/// No reference to plain bytes is ever made: single words are atomics, and bulk goes in and out by copies that the compiler
/// may neither split into its own accesses nor assume anything about (see `copy`). What is read may be anything, since
/// a writer may have died half-way: check it before it serves as a length or an offset.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    length: usize,
    _owner: Owner,
}

/// Whoever unmaps the bytes when the mapping is dropped.
enum Owner {
    Anonymous {
        _raw: MmapRaw,
    },
    Named {
        _raw: Box<Shmem>,
    },
    /// A part of named memory.
    Part {
        _of: SharedMemory,
    },
    Aligned {
        _range: Range,
    },
}

/// A range of addresses that is unmapped when dropped.
struct Range {
    start: *mut u8,
    length: usize,
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: whoever made the range had just mapped it, and hands out nothing that outlives it.
            let done = unsafe { munmap(self.start.cast(), self.length) };
            debug_assert!(done.is_ok(), "munmap: {done:?}");
        }
    }
}

// SAFETY: the bytes may be accessed by any thread and process at any time anyway, and every access here is made for that;
// the owner is only ever dropped, which unmaps and closes, and neither cares for the thread.
unsafe impl Send for Mapping {}

// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::Anonymous { .. } => "Anonymous",
            Owner::Named { .. } => "Named",
            Owner::Part { .. } => "Part",
            Owner::Aligned { .. } => "Aligned",
        })
    }
}

macro_rules! word {
    ($name:ident, $word:ty, $text:literal) => {
        #[doc = concat!("The ", $text, " at `offset`.")]
        ///
        /// # Panics
        ///
        /// When it does not lie inside, or is not aligned.
        #[inline]
        #[must_use]
        pub fn $name(&self, offset: usize) -> &$word {
            let place = self.at::<$word>(offset);
            // SAFETY: `at` checked bounds and alignment; the mapping lives as long as `self`, any bit pattern is a
            // valid integer, and all accesses through `Mapping` to bytes that may change are atomic or opaque copies.
            unsafe { &*place }
        }
    };
}

impl Mapping {
    pub(crate) fn new(raw: MmapRaw) -> Mapping {
        Mapping { start: raw.as_mut_ptr(), length: raw.len(), _owner: Owner::Anonymous { _raw: raw } }
    }

    /// Takes over the mapping of a named segment; its name must have another owner.
    pub(crate) fn named(raw: Shmem) -> Mapping {
        Mapping { start: raw.as_ptr(), length: raw.len(), _owner: Owner::Named { _raw: Box::new(raw) } }
    }

    /// The `length` bytes at `offset` of named memory, which stays mapped with them; `None` when they do not lie inside, or do
    /// not begin at a multiple of [`Mapping::ALIGN`].
    pub(crate) fn part(of: &SharedMemory, offset: usize, length: usize) -> Option<Mapping> {
        let end = offset.checked_add(length)?;
        if end > of.len() || !offset.is_multiple_of(Mapping::ALIGN) {
            return None;
        }
        let start = of.as_ptr().wrapping_add(offset);
        Some(Mapping { start, length, _owner: Owner::Part { _of: of.clone() } })
    }

    /// What the address of the first byte is at least a multiple of.
    pub const ALIGN: usize = 64;

    /// Maps the first `length` bytes of a file at a multiple of `alignment`, a power of two and a multiple of the page size.
    pub(crate) fn aligned(
        fd: &OwnedFd,
        length: usize,
        alignment: usize,
        writable: bool,
    ) -> io::Result<Mapping> {
        let page = rustix::param::page_size();
        let mapped = length.checked_next_multiple_of(page).ok_or(io::ErrorKind::OutOfMemory)?;
        let room = mapped.checked_add(alignment).ok_or(io::ErrorKind::OutOfMemory)?;
        // A reservation holds the addresses until the file is laid over an aligned part of it.
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let reserved = unsafe {
            mmap_anonymous(ptr::null_mut(), room, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE)
        }?;
        let reserved = Range { start: reserved.cast(), length: room };
        let head = reserved.start.align_offset(alignment);
        let start = reserved.start.wrapping_add(head);
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: `head < alignment`, so these addresses lie in the reservation, which is ours alone.
        unsafe { mmap(start.cast(), mapped, access, MapFlags::SHARED | MapFlags::FIXED, fd, 0) }?;
        // What stands around it goes back; the middle belongs to the mapping from here on.
        let tail = start.wrapping_add(mapped);
        drop(Range { start: tail, length: room - head - mapped });
        drop(Range { start: reserved.start, length: head });
        std::mem::forget(reserved);
        Ok(Mapping { start, length, _owner: Owner::Aligned { _range: Range { start, length: mapped } } })
    }

    /// Maps every page into this process now, where it would otherwise be mapped when it is first touched.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        match self.populate() {
            // The kernel is older than 5.14, or the mapping is for reading only.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            other => return other,
        }
        let page = rustix::param::page_size();
        for offset in (0..self.len()).step_by(page) {
            self.atomic_u8(offset).load(Relaxed);
        }
        Ok(())
    }

    pub(crate) fn populate(&self) -> io::Result<()> {
        // SAFETY: faulting pages in changes nothing of what they hold.
        unsafe { self.advise(Advice::LinuxPopulateWrite) }
    }

    /// Exchanges ordinary pages for huge ones, as many as the kernel finds.
    pub(crate) fn collapse(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; the same bytes lie in other pages afterwards.
        match unsafe { libc::madvise(self.start.cast(), self.length, MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn advise_huge(&self) -> io::Result<()> {
        // SAFETY: a wish for the size of pages changes nothing of what they hold.
        unsafe { self.advise(Advice::LinuxHugepage) }
    }

    /// Keeps the mapping out of children that are forked from now on.
    pub(crate) fn keep_from_forks(&self) -> io::Result<()> {
        // SAFETY: nothing changes in this process; in a forked child there is no `Mapping` that anybody uses.
        unsafe { self.advise(Advice::LinuxDontFork) }
    }

    /// # Safety
    ///
    /// The advice must leave the contents as they are.
    unsafe fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this mapping, and the caller vouches for the advice.
        let advised =
            rustix::io::retry_on_intr(|| unsafe { madvise(self.start.cast(), self.length, advice) });
        Ok(advised?)
    }

    /// How many bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of the first byte in this process.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    word!(atomic_u8, AtomicU8, "byte");
    word!(atomic_u16, AtomicU16, "two-byte word");
    word!(atomic_u32, AtomicU32, "four-byte word");
    word!(atomic_u64, AtomicU64, "eight-byte word");

    /// The address of a `T` at `offset`.
    ///
    /// # Panics
    ///
    /// When it does not lie inside, or is not aligned.
    #[inline(always)]
    #[must_use]
    pub fn at<T>(&self, offset: usize) -> *mut T {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "offset {offset} is outside of {} bytes",
            self.len()
        );
        const { assert!(align_of::<T>() <= Mapping::ALIGN, "more alignment than a mapping has") };
        assert!(offset.is_multiple_of(align_of::<T>()), "offset {offset} is not aligned");
        // SAFETY: inside of the mapping, as just checked. The mapping itself begins at a multiple of `ALIGN`, so the
        // offset's alignment is the address's.
        unsafe { self.as_ptr().add(offset) }.cast()
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    #[inline]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: inside of the mapping, as just checked.
        let to = unsafe { self.as_ptr().add(offset) };
        // SAFETY: `bytes` is readable, `to` is writable for as long, and the two cannot overlap: nothing else in this
        // process holds a slice of a `Mapping`.
        unsafe { copy::opaque(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Zeroes `length` bytes at `offset`.
    ///
    /// # Panics
    ///
    /// When they do not lie inside.
    pub(crate) fn fill(&self, offset: usize, length: usize) {
        const ZEROES: [u8; 1024] = [0; 1024];
        self.check(offset, length);
        for done in (0..length).step_by(ZEROES.len()) {
            self.copy_in(offset + done, &ZEROES[..ZEROES.len().min(length - done)]);
        }
    }

    /// Copies from `offset` into `bytes`.
    ///
    /// # Panics
    ///
    /// When there are not that many.
    #[inline]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        self.check(offset, bytes.len());
        // SAFETY: inside of the mapping, as just checked.
        let from = unsafe { self.as_ptr().add(offset) };
        // SAFETY: as in `copy_in`, the other way round.
        unsafe { copy::opaque(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Copies `length` bytes from `offset` to the end of `bytes`.
    ///
    /// # Panics
    ///
    /// When there are not that many.
    #[inline]
    pub fn append_to(&self, offset: usize, length: usize, bytes: &mut Vec<u8>) {
        self.check(offset, length);
        bytes.reserve(length);
        let old = bytes.len();
        // SAFETY: inside of the mapping, as just checked.
        let from = unsafe { self.as_ptr().add(offset) };
        // SAFETY: `old` is within the capacity just reserved.
        let to = unsafe { bytes.as_mut_ptr().add(old) };
        // SAFETY: `length` bytes were reserved behind `old`, and a vector never overlaps a mapping.
        unsafe { copy::opaque(from, to, length) };
        // SAFETY: those bytes are initialised by the copy.
        unsafe { bytes.set_len(old + length) };
    }

    #[inline]
    fn check(&self, offset: usize, length: usize) {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "{length} bytes at {offset} are outside of {} bytes",
            self.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(length: usize) -> Mapping {
        Mapping::new(memmap2::MmapOptions::new().len(length).map_anon().unwrap().into())
    }

    #[test]
    fn bytes_go_in_and_out_at_every_length() {
        let map = mapping(4096);
        for length in (0..200).chain([511, 512, 513, 2000]) {
            let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            map.copy_in(7, &bytes);
            let mut back = vec![0; length];
            map.copy_out(7, &mut back);
            assert_eq!(back, bytes);
            let mut appended = vec![1, 2];
            map.append_to(7, length, &mut appended);
            assert_eq!(appended[2..], bytes);
        }
    }

    #[test]
    fn bytes_go_in_and_out_at_every_distance() {
        let bytes: Vec<u8> = (0..12_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let map = mapping(20_000);
        for from in [0, 1, 16] {
            for place in (0..80).chain([4_000, 4_095, 4_096, 4_097]) {
                for length in [511, 512, 513, 4_096, 9_999] {
                    let bytes = &bytes[from..from + length];
                    map.copy_in(place, bytes);
                    let mut back = vec![0; from + length];
                    map.copy_out(place, &mut back[from..]);
                    assert!(&back[from..] == bytes, "{from}, {place}, {length}");
                }
            }
        }
    }

    #[test]
    fn an_aligned_mapping_is_one_and_leaves_nothing_around_it() {
        let fd = crate::sys::create("mp-aligned").unwrap();
        crate::sys::allocate(&fd, 0, 10_000).unwrap();
        let before = std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:mp-aligned").count();
        let map = Mapping::aligned(&fd, 10_000, 1 << 21, true).unwrap();
        assert!(map.as_ptr().addr().is_multiple_of(1 << 21));
        map.copy_in(9_995, b"bytes");
        map.prefault().unwrap();
        let mut seen = [0; 5];
        rustix::io::pread(&fd, &mut seen, 9_995).unwrap();
        assert_eq!(&seen, b"bytes");
        drop(map);
        let after = std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:mp-aligned").count();
        assert_eq!(before, after);
    }

    #[test]
    fn what_is_for_reading_only_can_be_prefaulted() {
        let fd = crate::sys::create("mp-test").unwrap();
        crate::sys::allocate(&fd, 0, 10_000).unwrap();
        Mapping::aligned(&fd, 10_000, 1 << 21, false).unwrap().prefault().unwrap();
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_word_beyond_the_end_panics() {
        let _ = mapping(4096).atomic_u32(4094);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn an_unaligned_word_panics() {
        let _ = mapping(4096).atomic_u32(2);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_length_that_overflows_panics() {
        mapping(4096).append_to(usize::MAX, 2, &mut Vec::new());
    }
}
