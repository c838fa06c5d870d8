//! Anonymous memory that grows, for queues without a bound.
//!
//! One memfd, sealed against shrinking only: it grows by allocation at its end, each process maps the windows it
//! needs, and what is no longer used is given back page by page while the offsets stay. A window shows its offsets for ever: who
//! puts something new at old ones is to know who still looks there.

use crate::mapping::Mapping;
use crate::segment::{self, Format, HEADER, invalid};
use crate::sys;
use crate::view::{View, Words};
use mp_core::Handle;
use rustix::fs::SealFlags;
use serde::{Deserializer, Serialize, Serializer};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The granularity of windows: the page size of every supported machine divides it.
pub const WINDOW: u64 = 64 << 10;

/// Anonymous shared memory that grows. The first `fixed` bytes are mapped in every process all the time, with the
/// header of a [`Segment`](crate::Segment) in front.
#[derive(Clone, Debug)]
pub struct Growable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: Handle,
    fixed: Mapping,
}

impl Growable {
    /// Makes a growable segment whose fixed part has `fixed` zeroed bytes behind the header.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left.
    pub fn create(format: Format, fixed: usize) -> io::Result<Growable> {
        let total = HEADER.checked_add(fixed).ok_or(io::ErrorKind::OutOfMemory)?;
        let fd = sys::create("mp-growable")?;
        sys::allocate(&fd, 0, total as u64)?;
        sys::seal(&fd, SealFlags::SHRINK | SealFlags::SEAL)?;
        let map = Mapping::new(segment::map(&fd, 0, total)?);
        segment::write_header(&map, format, fixed as u64);
        Ok(Growable(Arc::new(Inner { fd: Handle::from(fd), fixed: map })))
    }

    /// Opens one that came from elsewhere, if its fixed part is `fixed` bytes of `format`.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is not.
    pub fn open(fd: OwnedFd, format: Format, fixed: usize) -> io::Result<Growable> {
        if !sys::seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            return Err(invalid("it is not sealed against shrinking"));
        }
        let total = HEADER + fixed;
        if sys::size(&fd)? < total as u64 {
            return Err(invalid("it is too small"));
        }
        let map = Mapping::new(segment::map(&fd, 0, total)?);
        segment::check_header(&map, format, total)?;
        Ok(Growable(Arc::new(Inner { fd: Handle::from(fd), fixed: map })))
    }

    /// The fixed part, header included.
    #[inline]
    #[must_use]
    pub fn fixed(&self) -> &Mapping {
        &self.0.fixed
    }

    /// The words at `offset` in the fixed part, header included.
    ///
    /// # Panics
    ///
    /// When they do not lie inside, or are not aligned.
    #[must_use]
    pub fn view<T: Words>(&self, offset: usize) -> View<T> {
        View::new(self, offset)
    }

    /// Where the first window may start.
    #[must_use]
    pub fn first_window(&self) -> u64 {
        (self.0.fixed.len() as u64).next_multiple_of(WINDOW)
    }

    /// Makes bytes `offset..offset + length` really there.
    ///
    /// # Errors
    ///
    /// When there is not that much memory; nothing has changed then.
    pub fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length).ok_or(io::ErrorKind::OutOfMemory)?;
        sys::allocate(self.0.fd.shared(), offset, end)
    }

    /// Maps `length` bytes at `offset`, a multiple of [`WINDOW`].
    ///
    /// # Errors
    ///
    /// `InvalidData` when the file has no such bytes; else when the address space is full.
    pub fn window(&self, offset: u64, length: usize) -> io::Result<Mapping> {
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= i64::MAX.cast_unsigned());
        // The file cannot shrink, so what is there now stays there.
        if !inside || !offset.is_multiple_of(WINDOW) || sys::size(self)? < offset + length as u64 {
            return Err(invalid("a window lies outside of it"));
        }
        Ok(Mapping::new(segment::map(self.0.fd.shared(), offset, length)?))
    }

    /// Gives the memory of `offset..offset + length` back to the system. Repeating it does no harm.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        sys::give_back(self.0.fd.shared(), offset, offset.saturating_add(length))
    }

    /// Whether the creator saw the same pids as this process.
    #[must_use]
    pub fn same_pid_namespace(&self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        self.fixed().atomic_u64(32).load(Relaxed) == mp_core::identity::pid_namespace()
    }

    /// Opens the handle that comes next, for a `Deserialize` of a type over it.
    ///
    /// # Errors
    ///
    /// As [`open`](Growable::open).
    pub fn deserialize_as<'de, D: Deserializer<'de>>(
        deserializer: D,
        format: Format,
        fixed: usize,
    ) -> Result<Growable, D::Error> {
        let fd = mp_core::handle::deserialize_fd(deserializer)?;
        Growable::open(fd, format, fixed).map_err(serde::de::Error::custom)
    }
}

impl AsFd for Growable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl Serialize for Growable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fd.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    const FORMAT: Format = Format::plain(*b"TEST", 1);

    #[test]
    fn windows_of_two_mappings_show_the_same_bytes() {
        let one = Growable::create(FORMAT, 128).unwrap();
        let at = one.first_window();
        one.allocate(at, WINDOW).unwrap();
        let two = Growable::open(one.as_fd().try_clone_to_owned().unwrap(), FORMAT, 128).unwrap();
        one.window(at, 4096).unwrap().atomic_u64(8).store(9, Relaxed);
        assert_eq!(two.window(at, 4096).unwrap().atomic_u64(8).load(Relaxed), 9);
        one.give_back(at, WINDOW).unwrap();
        assert_eq!(two.window(at, 4096).unwrap().atomic_u64(8).load(Relaxed), 0);
    }

    #[test]
    fn a_window_outside_is_an_error_not_a_signal() {
        let one = Growable::create(FORMAT, 128).unwrap();
        assert!(one.window(one.first_window(), 4096).is_err());
        assert!(one.window(u64::MAX - 5, 4096).is_err());
        assert!(one.window(7, 16).is_err());
    }
}
