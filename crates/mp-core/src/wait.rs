//! Waiting on many things at once.

use crate::Deadline;
use crate::deadline::LONG_SLICE;
use crate::{park, sys};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Something that can be waited for beside others: a connection, a queue, an event, a process.
pub trait Waitable {
    /// A descriptor that is readable whenever [`is_ready`](Waitable::is_ready) would say yes; it may also be
    /// readable for nothing, never the other way round.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be made (no descriptors left).
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>>;

    /// Whether it is ready now, exactly: a receive would not block, a process has ended.
    ///
    /// # Errors
    ///
    /// When that cannot be known any more.
    fn is_ready(&self) -> io::Result<bool>;
}

/// A foreign descriptor in a [`wait()`]: ready when readable or hung up.
#[derive(Clone, Copy, Debug)]
pub struct Readable<F>(pub F);

impl<F: AsFd> Waitable for Readable<F> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.0.as_fd())
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(sys::readable(&self.0))
    }
}

/// Waits until at least one of `items` is ready; returns the indices of all that are, in order.
///
/// `None` waits for ever, a time-out of zero polls once; an empty result means that the time is over.
///
/// # Errors
///
/// Fails when an item does, or when the kernel cannot poll that many descriptors.
pub fn wait(items: &[&dyn Waitable], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let deadline = Deadline::after_option(timeout);
    let fds = items.iter().map(|item| item.wait_fd()).collect::<io::Result<Vec<_>>>()?;
    loop {
        let mut ready = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if item.is_ready()? {
                ready.push(index);
            }
        }
        if !ready.is_empty() || deadline.passed() {
            return Ok(ready);
        }
        park::sleep_on_fds(&fds, Some(deadline.slice(LONG_SLICE)))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn exactly_the_ready_ones_are_named() {
        let (quiet, _quiet_end) = io::pipe().unwrap();
        let (full, mut full_end) = io::pipe().unwrap();
        let (hung_up, hung_up_end) = io::pipe().unwrap();
        let (quiet, full, hung_up) = (Readable(quiet), Readable(full), Readable(hung_up));
        assert_eq!(wait(&[&quiet, &full], Some(Duration::ZERO)).unwrap(), []);
        full_end.write_all(b"x").unwrap();
        drop(hung_up_end);
        assert_eq!(wait(&[&quiet, &full, &hung_up], None).unwrap(), [1, 2]);
    }
}
