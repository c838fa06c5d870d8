//! The OS under names: files in the directory of POSIX shared memory, their locks and marks.
//!
//! Contract: `unnamed` makes a file that vanishes with its last descriptor; `publish` gives it a name in one step, or fails
//! when the name is taken; `share` and `claim` never wait; `remove` removes a name only while it stands for the given
//! file. A *mark* on a file says that its name may be removed once nobody uses it: the hint that its data will not live
//! long, which no other program gives to a file of shared memory.

use super::own::Own;
use super::{above_standard_streams, hint, size};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// Where `shm_open` puts names.
const DIRECTORY: &str = "/dev/shm";

/// Which file a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(crate) fn of(fd: &OwnedFd) -> io::Result<Inode> {
        Ok(inode(&rustix::fs::fstat(fd)?))
    }

    /// The one that `name` stands for now.
    pub(crate) fn at(name: &str) -> Option<Inode> {
        rustix::fs::statat(CWD, path(name), AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| inode(&stat))
    }
}

#[expect(clippy::useless_conversion, reason = "not the same type on every machine")]
fn inode(stat: &Stat) -> Inode {
    Inode { device: u64::from(stat.st_dev), number: u64::from(stat.st_ino) }
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// A new file for this user alone, without a name.
pub(crate) fn unnamed() -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    let fd = rustix::fs::open(DIRECTORY, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)?;
    // Whatever the umask made of it.
    rustix::fs::fchmod(&fd, mode)?;
    above_standard_streams(fd)
}

/// Gives the file a name; `AlreadyExists` when another has it.
pub(crate) fn publish(fd: &OwnedFd, name: &str) -> io::Result<()> {
    let nameless = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, nameless, CWD, path(name), AtFlags::SYMLINK_FOLLOW)?)
}

/// Opens what has the name now, if it is a plain file.
pub(crate) fn open(name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path(name), flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a segment of shared memory"));
    }
    above_standard_streams(fd)
}

/// Whether the descriptor is a file of shared memory that has, or once had, a name.
pub(crate) fn is_named_memory(fd: &OwnedFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(fd)?;
    let here = rustix::fs::stat(DIRECTORY)?;
    Ok(stat.st_dev == here.st_dev && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Joins the users of the file; false when somebody is about to remove its name.
pub(crate) fn share(fd: &OwnedFd) -> io::Result<bool> {
    locked(fd, FlockOperation::NonBlockingLockShared)
}

/// Becomes the only one; false when it has users.
pub(crate) fn claim(fd: &OwnedFd) -> io::Result<bool> {
    locked(fd, FlockOperation::NonBlockingLockExclusive)
}

fn locked(fd: &OwnedFd, how: FlockOperation) -> io::Result<bool> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(fd, how)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn mark(fd: &OwnedFd) -> io::Result<()> {
    hint::set_lifetime(fd, hint::SHORT_LIVED)
}

pub(crate) fn unmark(fd: &OwnedFd) -> io::Result<()> {
    hint::set_lifetime(fd, hint::UNKNOWN)
}

/// Whether the file is marked, and this user's to remove.
pub(crate) fn is_marked(fd: &OwnedFd) -> bool {
    let user = rustix::process::geteuid();
    let ours = rustix::fs::fstat(fd).is_ok_and(|stat| user.is_root() || stat.st_uid == user.as_raw());
    ours && hint::lifetime(fd).is_ok_and(|lifetime| lifetime == hint::SHORT_LIVED)
}

/// Removes the name if it stands for that file; false when it does not. The two steps are one for all who keep to the locks;
/// a foreign program that takes the name away and gives it to another file between them loses that name.
pub(crate) fn remove(name: &str, inode: Inode) -> io::Result<bool> {
    if Inode::at(name) != Some(inode) {
        return Ok(false);
    }
    remove_any(name)
}

/// Removes the name, whatever it stands for; false when there is none.
pub(crate) fn remove_any(name: &str) -> io::Result<bool> {
    match rustix::fs::unlink(path(name)) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// All names there are.
pub(crate) fn all() -> io::Result<Vec<String>> {
    let entries = fs::read_dir(DIRECTORY)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Whether parts of the file are not really there, so that touching them may need memory that there is not.
pub(crate) fn has_holes(fd: &OwnedFd) -> io::Result<bool> {
    let blocks = u64::try_from(rustix::fs::fstat(fd)?.st_blocks).unwrap_or(0);
    Ok(blocks.saturating_mul(512) < size(fd)?)
}

/// The files of the directory's device that some process has mapped, as far as this user may know: a file for this
/// user alone is mapped by this user's processes, or root's.
pub(crate) fn mapped() -> io::Result<HashSet<Inode>> {
    let device = rustix::fs::stat(DIRECTORY)?;
    let device = inode(&device).device;
    let label = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut found = HashSet::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let numbered = process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        // One that has just ended, or that is another user's.
        let Some(maps) = numbered.then(|| fs::read(process.path().join("maps")).ok()).flatten() else {
            continue;
        };
        for line in String::from_utf8_lossy(&maps).lines() {
            let mut fields = line.split_ascii_whitespace().skip(3);
            if fields.next() == Some(&label) {
                found.extend(
                    fields
                        .next()
                        .and_then(|number| number.parse().ok())
                        .map(|number| Inode { device, number }),
                );
            }
        }
    }
    Ok(found)
}

/// Runs `open` while descriptors 0 to 2 are taken, so that what it opens gets a higher one. `spare` is duplicated for that.
pub(crate) fn with_standard_streams<R>(spare: &OwnedFd, open: impl FnOnce() -> R) -> io::Result<R> {
    // One thread at a time: the fillers of one must not vanish under another.
    static ONE: Own<Mutex<()>> = Own::new();
    let _one = ONE.get().lock().unwrap_or_else(PoisonError::into_inner);
    let mut fillers = Vec::new();
    loop {
        let filler = rustix::io::fcntl_dupfd_cloexec(spare, 0)?;
        if filler.as_raw_fd() > 2 {
            break;
        }
        fillers.push(filler);
    }
    Ok(open())
}
