//! Which descriptors this process has.

#![expect(unsafe_code, reason = "closing descriptors that nobody in this process owns")]

use std::fs;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Closes the descriptors above the standard streams that this program has found open when it started.
///
/// Those that it was not meant to have: a program that starts others passes on every descriptor without CLOEXEC, also by accident, and
/// a pipe's end that a child holds unknowingly keeps the other side from ever seeing it closed. They are known by the missing
/// flag: what this process has opened itself since, these crates' and the standard library's, has it.
///
/// For the beginning of a process, before its own code has opened anything.
pub(crate) fn close_inherited() {
    // Without `/proc` nobody can tell; then they stay.
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let number = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let open: Vec<RawFd> = entries.filter_map(number).filter(|&fd| fd > 2).collect();
    for fd in open.into_iter().filter(|&fd| is_inherited(fd)) {
        // SAFETY: it came with the start of this program, whose code has not run yet, so nobody here owns it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: only asked for its flags; one that is closed by now, as that of the listing, has none.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
}
