//! The hint that a file carries about how long its data will live.
//!
//! The kernel keeps it with the inode, also of a file in memory, and nothing but this call changes it: neither writing
//! nor mapping nor resizing does, as they do change times. `fcntl(2)`, since Linux 4.13.

#![expect(unsafe_code, reason = "an `fcntl` that `rustix` lacks")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const F_GET_RW_HINT: libc::c_int = 1024 + 11;
const F_SET_RW_HINT: libc::c_int = 1024 + 12;

/// `RWH_WRITE_LIFE_NONE`: nothing is known of how long the data will live.
pub(crate) const UNKNOWN: u64 = 1;

/// `RWH_WRITE_LIFE_SHORT`: the data will not live long.
pub(crate) const SHORT_LIVED: u64 = 2;

pub(crate) fn lifetime(fd: &OwnedFd) -> io::Result<u64> {
    let mut hint = 0_u64;
    // SAFETY: the command writes one `u64` where it is told, which is ours and lives as long as the call.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_GET_RW_HINT, &raw mut hint) };
    if result == 0 { Ok(hint) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn set_lifetime(fd: &OwnedFd, hint: u64) -> io::Result<()> {
    // SAFETY: the command reads one `u64` where it is told, which lives as long as the call.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_SET_RW_HINT, &raw const hint) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_mapping_and_resizing_leave_it() {
        let fd = crate::sys::names::unnamed().unwrap();
        assert_ne!(lifetime(&fd).unwrap(), SHORT_LIVED);
        set_lifetime(&fd, SHORT_LIVED).unwrap();
        crate::sys::allocate(&fd, 0, 4096).unwrap();
        rustix::io::pwrite(&fd, b"x", 0).unwrap();
        let map = crate::Mapping::new(memmap2::MmapOptions::new().len(4096).map_raw(&fd).unwrap());
        map.copy_in(0, b"y");
        assert_eq!(lifetime(&fd).unwrap(), SHORT_LIVED);
        set_lifetime(&fd, UNKNOWN).unwrap();
        assert_eq!(lifetime(&fd).unwrap(), UNKNOWN);
    }
}
