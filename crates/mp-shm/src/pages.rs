//! Which pages lie under memory: ordinary ones, or huge ones where they were asked for and there are some.

use crate::mapping::Mapping;
use crate::segment::invalid;
use crate::sys;
use rustix::fs::SealFlags;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::{fs, io};

/// Which pages lie under memory that was made with huge ones.
///
/// Huge pages save the processor's time with memory of many megabytes that is read here and there. There are two kinds, and a
/// machine may have neither. The first one that there is, is taken, and this says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// Ordinary ones: huge ones were not asked for, or there are none (or the memory is too small for one).
    Ordinary,
    /// The kernel's transparent ones, for so many bytes; the rest is ordinary. The kernel gives these to shared memory while it
    /// finds any: since 6.1, or where `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says `advise`, `within_size` or `always`.
    Transparent {
        /// How many bytes lie in huge pages.
        bytes: usize,
    },
    /// Ones that were set aside by the administrator (`vm.nr_hugepages`), for all of it.
    Reserved {
        /// How large one is.
        size: usize,
    },
}

/// Memory that was made with huge pages where there are some.
pub(crate) struct Huge {
    pub(crate) fd: OwnedFd,
    pub(crate) map: Mapping,
    pub(crate) pages: Pages,
}

/// Makes `total` zeroed bytes, really there and not sealed yet, and maps them for writing.
pub(crate) fn make(name: &str, total: usize) -> io::Result<Huge> {
    if let Some(reserved) = reserved(name, total)? {
        return Ok(reserved);
    }
    let huge = transparent_alignment();
    if total < huge { ordinary(name, total) } else { transparent(name, total, huge, faults_may_be_huge()) }
}

/// `None` when not enough are set aside.
fn reserved(name: &str, total: usize) -> io::Result<Option<Huge>> {
    // Not for the one seal's sake that such a file lacks on old kernels, nor for a page that would mostly be wasted.
    let Ok((fd, size)) = sys::create_huge(name) else { return Ok(None) };
    if total < size / 2 {
        return Ok(None);
    }
    let whole = total.checked_next_multiple_of(size).ok_or(io::ErrorKind::OutOfMemory)?;
    if sys::allocate_reserved(&fd, whole as u64).is_err() || sys::seals(&fd).is_err() {
        return Ok(None);
    }
    let Ok(map) = Mapping::aligned(&fd, whole, size, true) else { return Ok(None) };
    Ok(Some(Huge { fd, map, pages: Pages::Reserved { size } }))
}

/// The kernel takes huge pages when a fault makes them, where the settings allow that, in a mapping that is aligned to one and has
/// the advice; so the file gets its size first, is faulted in, and what is missing then is allocated as ever. Else it
/// exchanges ordinary pages for huge ones when asked to (since 6.1).
fn transparent(name: &str, total: usize, huge: usize, by_fault: bool) -> io::Result<Huge> {
    let fd = sys::create(name)?;
    sys::within_limits(total as u64, total as u64)?;
    rustix::fs::ftruncate(&fd, total as u64)?;
    let map = Mapping::aligned(&fd, total, huge, true)?;
    // What these cannot do, the allocation does or refuses, and the count tells.
    let _ = map.advise_huge();
    if by_fault {
        let _ = map.populate();
    }
    sys::allocate(&fd, 0, total as u64)?;
    let _ = map.collapse();
    let bytes = huge_bytes(map.as_ptr().addr(), total);
    let pages = if bytes == 0 { Pages::Ordinary } else { Pages::Transparent { bytes } };
    Ok(Huge { fd, map, pages })
}

fn ordinary(name: &str, total: usize) -> io::Result<Huge> {
    let fd = sys::create(name)?;
    sys::allocate(&fd, 0, total as u64)?;
    let map = Mapping::new(crate::segment::map(&fd, 0, total)?);
    Ok(Huge { fd, map, pages: Pages::Ordinary })
}

const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";

/// Whether the settings let a fault in shared memory with the advice take a huge page.
fn faults_may_be_huge() -> bool {
    let enabled = fs::read_to_string(format!("{SETTINGS}/shmem_enabled")).unwrap_or_default();
    !enabled.is_empty() && !["[never]", "[deny]"].iter().any(|off| enabled.contains(off))
}

/// How large a transparent huge page is, and so at what a mapping must be aligned to show them.
pub(crate) fn transparent_alignment() -> usize {
    let size = fs::read_to_string(format!("{SETTINGS}/hpage_pmd_size")).unwrap_or_default();
    size.trim().parse().ok().filter(|size: &usize| size.is_power_of_two()).unwrap_or(2 << 20)
}

/// How many bytes of the mapping at `start` lie in huge pages, as the kernel says.
fn huge_bytes(start: usize, length: usize) -> usize {
    fs::read_to_string("/proc/self/smaps").map_or(0, |smaps| sum_huge(&smaps, start, length))
}

fn sum_huge(smaps: &str, start: usize, length: usize) -> usize {
    let mut inside = false;
    let mut sum: usize = 0;
    for line in smaps.lines() {
        if let Some(from) = first_address(line) {
            inside = (start..start.saturating_add(length)).contains(&from);
        } else if let Some(size) = line.strip_prefix("ShmemPmdMapped:").filter(|_| inside) {
            let kib: usize = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            sum = sum.saturating_add(kib.saturating_mul(1024));
        }
    }
    sum
}

/// The start of a mapping, of a line that opens one.
fn first_address(line: &str) -> Option<usize> {
    let (from, rest) = line.split_once('-')?;
    rest.contains(' ').then_some(())?;
    usize::from_str_radix(from, 16).ok()
}

/// Seals memory to its size, for every kind of page.
pub(crate) fn seal_size(fd: &OwnedFd) -> io::Result<()> {
    sys::seal(fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// Where the header of a segment says which pages lie under it.
const PAGES: usize = 56;

/// Stands beside the size of a reserved page there.
const RESERVED: u64 = 1 << 63;

/// Remembers which pages lie under it: that is counted where it is made, and receivers are told.
pub(crate) fn write(map: &Mapping, pages: Pages) {
    let word = match pages {
        Pages::Ordinary => 0,
        Pages::Transparent { bytes } => bytes as u64,
        Pages::Reserved { size } => size as u64 | RESERVED,
    };
    map.atomic_u64(PAGES).store(word, Relaxed);
}

/// Which pages the header says there are: what a broken program writes there is no more than a wrong answer.
fn read(map: &Mapping) -> Pages {
    let word = map.atomic_u64(PAGES).load(Relaxed);
    let number = usize::try_from(word & !RESERVED).unwrap_or(0);
    match (word & RESERVED != 0, number) {
        (_, 0) => Pages::Ordinary,
        (true, size) if size.is_power_of_two() => Pages::Reserved { size },
        (true, _) => Pages::Ordinary,
        (false, bytes) => Pages::Transparent { bytes: bytes.min(map.len()) },
    }
}

/// Checks that the whole file, which is mapped, is what `total` bytes take in its pages.
pub(crate) fn check_size(map: &Mapping, total: usize) -> io::Result<()> {
    let expected = match read(map) {
        Pages::Reserved { size } => total.checked_next_multiple_of(size),
        _ => Some(total),
    };
    if expected == Some(map.len()) { Ok(()) } else { Err(invalid("its size is not what its header says")) }
}

/// Maps it anew where it lies in transparent huge pages, which a mapping shows only when it is aligned as they are.
pub(crate) fn laid_out(fd: &OwnedFd, map: Mapping, writable: bool) -> io::Result<(Mapping, Pages)> {
    let pages = read(&map);
    if !matches!(pages, Pages::Transparent { .. }) {
        return Ok((map, pages));
    }
    let length = map.len();
    drop(map);
    Ok((Mapping::aligned(fd, length, transparent_alignment(), writable)?, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_huge_pages_of_the_mapping_itself_are_counted() {
        let smaps = "\
7f0000000000-7f0000400000 rw-s 00000000 00:01 5 /memfd:x (deleted)
Size:               4096 kB
ShmemPmdMapped:     2048 kB
7f0000400000-7f0000401000 rw-s 00400000 00:01 5 /memfd:x (deleted)
ShmemPmdMapped:        0 kB
7fffff000000-7fffff400000 rw-s 00000000 00:01 6 /memfd:y (deleted)
ShmemPmdMapped:     4096 kB
";
        assert_eq!(sum_huge(smaps, 0x7f00_0000_0000, 4 << 20), 2 << 20);
        assert_eq!(sum_huge(smaps, 0x7f00_0040_0000, 4096), 0);
        assert_eq!(sum_huge("", 0, 1), 0);
    }

    #[test]
    fn what_the_header_says_of_pages_is_taken_with_care() {
        let map = Mapping::new(memmap2::MmapOptions::new().len(8192).map_anon().unwrap().into());
        for pages in [Pages::Ordinary, Pages::Transparent { bytes: 4096 }, Pages::Reserved { size: 2 << 20 }]
        {
            write(&map, pages);
            assert_eq!(read(&map), pages);
        }
        for nonsense in [u64::MAX, RESERVED, RESERVED | 3] {
            map.atomic_u64(PAGES).store(nonsense, Relaxed);
            assert_eq!(read(&map), Pages::Ordinary);
        }
        map.atomic_u64(PAGES).store(1 << 50, Relaxed);
        assert_eq!(read(&map), Pages::Transparent { bytes: 8192 });
        assert!(check_size(&map, 8192).is_ok() && check_size(&map, 8191).is_err());
    }

    #[test]
    fn all_kinds_give_memory_that_can_be_written() {
        let transparent = |by_fault| transparent("mp-test", 5 << 20, 2 << 20, by_fault);
        for made in [ordinary("mp-test", 5 << 20), transparent(true), transparent(false)] {
            let made = made.unwrap();
            assert_eq!(made.map.len(), 5 << 20);
            made.map.copy_in((5 << 20) - 5, b"bytes");
            assert!(!sys::names::has_holes(&made.fd).unwrap());
            seal_size(&made.fd).unwrap();
        }
    }
}
