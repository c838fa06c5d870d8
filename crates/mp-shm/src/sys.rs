//! The OS under anonymous memory: memfds, their seals and sizes.
//!
//! Contract: `create` gives an empty memfd that can be sealed and is closed on exec; `allocate` makes bytes really
//! there, or fails, so that touching them later cannot end in SIGBUS; `seals` and `size` tell the truth about a
//! descriptor that came from elsewhere.

pub(crate) mod exit;
mod hint;
pub(crate) mod names;

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

/// Makes bytes `start..end` really there; grows the file as needed.
pub(crate) fn allocate(fd: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    if end <= start {
        return Ok(());
    }
    within_limits(end - start, end)?;
    loop {
        match fallocate(fd, FallocateFlags::empty(), start, end - start) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
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
fn within_limits(more: u64, end: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if limit.is_some_and(|limit| end > limit) {
        return Err(too_large("RLIMIT_FSIZE", more));
    }
    if more < WORTH_A_LOOK {
        return Ok(());
    }
    if available_memory().is_some_and(|available| more > available) {
        return Err(too_large("the machine's available memory", more));
    }
    if cgroup_allowance().is_some_and(|allowance| more > allowance) {
        return Err(too_large("the memory cgroup's allowance", more));
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

/// What this process's memory cgroup (version 2) still allows; page cache in it can be given up, so it counts as free.
fn cgroup_allowance() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat")?;
    let cache =
        stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
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
