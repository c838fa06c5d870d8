//! The OS under anonymous memory: memfds, their seals and sizes.
//!
//! Contract: `create` gives an empty memfd that can be sealed and is closed on exec; `allocate` makes bytes really
//! there, or fails, so that touching them later cannot end in SIGBUS; `seals` and `size` tell the truth about a
//! descriptor that came from elsewhere.

mod cgroup;
pub(crate) mod exit;
mod hint;
pub(crate) mod names;
pub(crate) mod own;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Sizes from here on are compared with what the machine has left before they are asked for.
const WORTH_A_LOOK: u64 = 16 << 20;

pub(crate) fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    above_standard_streams(fd)
}

/// The same file under a number that is no standard stream's. A daemon has closed these, and whatever some library
/// prints would be written into the memory.
pub(crate) fn above_standard_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
}

/// A memfd of pages that were set aside, and the size of one; an error where the kernel has none.
pub(crate) fn create_huge(name: &str) -> io::Result<(OwnedFd, usize)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let fd = above_standard_streams(rustix::fs::memfd_create(name, flags)?)?;
    let size = huge_page_size(&fd)?.ok_or(io::ErrorKind::Unsupported)?;
    Ok((fd, size))
}

/// How large a page is, of a file whose pages were set aside; `None` for any other file.
pub(crate) fn huge_page_size(fd: &OwnedFd) -> io::Result<Option<usize>> {
    const HUGETLBFS: u64 = 0x9584_58f6;
    let system = rustix::fs::fstatfs(fd)?;
    let size = usize::try_from(system.f_bsize).ok().filter(|size| size.is_power_of_two());
    // The type's type differs by machine, and may be signed and narrow.
    let here = u64::try_from(system.f_type).unwrap_or(0);
    Ok(size.filter(|_| here == HUGETLBFS))
}

/// Makes the first `size` bytes of a file of set-aside pages really there.
pub(crate) fn allocate_reserved(fd: &OwnedFd, size: u64) -> io::Result<()> {
    within_file_size(size, size)?;
    Ok(rustix::io::retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), 0, size))?)
}

/// Makes bytes `start..end` really there; grows the file as needed.
///
/// A signal makes the kernel (most versions) take back all that the call has allocated. So after one less is asked for at a time: a
/// program whose timer ticks faster than a gigabyte is allocated still gets it.
pub(crate) fn allocate(fd: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    if end <= start {
        return Ok(());
    }
    within_limits(end - start, end)?;
    in_portions(start, end, |at, length| fallocate(fd, FallocateFlags::empty(), at, length))
}

fn in_portions(start: u64, end: u64, mut ask: impl FnMut(u64, u64) -> Result<(), Errno>) -> io::Result<()> {
    const LEAST: u64 = 64 << 10;
    let (mut at, mut portion) = (start, end - start);
    while at < end {
        let now = portion.min(end - at);
        match ask(at, now) {
            Ok(()) => at += now,
            Err(Errno::INTR) => portion = (now / 2).max(LEAST),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes all of `bytes` into the file, where they are allocated.
pub(crate) fn write_at(fd: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(fd, bytes, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Gives the pages of `start..end` back to the system; the bytes read as zero afterwards.
pub(crate) fn give_back(fd: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    if end <= start {
        return Ok(());
    }
    Ok(fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start)?)
}

pub(crate) fn seal(fd: &OwnedFd, seals: SealFlags) -> io::Result<()> {
    Ok(fcntl_add_seals(fd, seals)?)
}

/// The seals of a descriptor; an error for one that is no memfd.
pub(crate) fn seals<F: AsFd>(fd: F) -> io::Result<SealFlags> {
    Ok(fcntl_get_seals(fd)?)
}

pub(crate) fn size<F: AsFd>(fd: F) -> io::Result<u64> {
    Ok(u64::try_from(fstat(fd)?.st_size).unwrap_or(0))
}

/// Fails where the kernel would kill instead: SIGXFSZ past RLIMIT_FSIZE, the out-of-memory killer past a cgroup's or the
/// machine's memory. The latter two are looked at best effort: others may take the memory meanwhile.
pub(crate) fn within_limits(more: u64, end: u64) -> io::Result<()> {
    within_file_size(more, end)?;
    if more < WORTH_A_LOOK {
        return Ok(());
    }
    if available_memory().is_some_and(|available| more > available) {
        return Err(too_large("the machine's available memory", more));
    }
    if cgroup::allowance().is_some_and(|allowance| more > allowance) {
        return Err(too_large("the memory cgroup's allowance", more));
    }
    Ok(())
}

fn within_file_size(more: u64, end: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| end > limit) {
        return Err(too_large("the limit on the size of files (RLIMIT_FSIZE)", more));
    }
    Ok(())
}

fn too_large(what: &str, size: u64) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, format!("{size} more bytes of shared memory exceed {what}"))
}

/// Available memory and free swap, in bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
    };
    Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_machine_has_is_an_error_now() {
        let fd = create("mp-test").unwrap();
        let error = allocate(&fd, 0, 1 << 60).unwrap_err();
        assert!(error.to_string().contains("exceed") || error.raw_os_error().is_some(), "{error}");
    }

    /// A kernel that gets no more than a megabyte done between two signals.
    #[test]
    fn a_hail_of_signals_makes_the_portions_smaller_until_they_get_through() {
        let mut done = Vec::new();
        let asked = in_portions(100, 5 << 20, |at, length| {
            if length > 1 << 20 {
                return Err(Errno::INTR);
            }
            done.push((at, length));
            Ok(())
        });
        asked.unwrap();
        assert_eq!(done.first().map(|(at, _)| *at), Some(100));
        assert!(done.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{done:?}");
        assert_eq!(done.last().map(|(at, length)| at + length), Some(5 << 20));
        assert!(in_portions(0, 1, |_, _| Err(Errno::NOSPC)).is_err());
    }

    #[test]
    fn memory_that_was_given_back_reads_as_zero() {
        use std::os::unix::fs::FileExt;
        let file = fs::File::from(create("mp-test").unwrap());
        let fd = OwnedFd::from(file.try_clone().unwrap());
        allocate(&fd, 0, 8192).unwrap();
        file.write_all_at(b"x", 5000).unwrap();
        give_back(&fd, 4096, 8192).unwrap();
        let mut byte = [1];
        file.read_exact_at(&mut byte, 5000).unwrap();
        assert_eq!((byte, size(&fd).unwrap()), ([0], 8192));
    }
}
