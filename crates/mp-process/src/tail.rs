//! The last bytes of what children write. [`reader`] reads them.
//!
//! | dies | then |
//! | --- | --- |
//! | the child | what it wrote is in the pipe, and is read |
//! | the child, with children of its own that keep the pipe open | they are read on, while somebody holds the handle |
//! | this process | the pipe has no reader: writing is an error |

use crate::reader::{self, Source};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many reads before others have their turn; several times what a pipe holds.
const TURN: usize = 16;

/// The last bytes of one stream. Dropping it lets go of the pipe.
#[derive(Debug)]
pub(crate) struct Tail(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    /// Does not block.
    pipe: OwnedFd,
    length: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Tail {
    /// Keeps the last `length` bytes of what comes through `pipe`, from now on.
    pub(crate) fn of(pipe: OwnedFd, length: usize) -> io::Result<Tail> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let stream = Arc::new(Stream { pipe, length, kept: Mutex::default() });
        reader::enter(Arc::<Stream>::clone(&stream))?;
        Ok(Tail(stream))
    }

    /// What there is now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.read(&mut vec![0; reader::CHUNK]);
        let kept = self.0.kept();
        let (front, back) = kept.bytes.as_slices();
        [front, back].concat()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !std::mem::replace(&mut self.0.kept().ended, true) {
            reader::look_again();
        }
    }
}

impl Stream {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Stream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    fn read(&self, chunk: &mut [u8]) {
        let mut kept = self.kept();
        for _ in 0..TURN {
            if kept.ended {
                return;
            }
            match rustix::io::read(&self.pipe, &mut *chunk) {
                Ok(0) => kept.ended = true,
                Ok(length) => kept.push(&chunk[..length], self.length),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => kept.ended = true,
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.kept().ended
    }
}

impl Kept {
    fn push(&mut self, bytes: &[u8], most: usize) {
        let bytes = &bytes[bytes.len().saturating_sub(most)..];
        let over = (self.bytes.len() + bytes.len()).saturating_sub(most);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more() {
        let mut kept = Kept::default();
        kept.push(b"abc", 4);
        kept.push(b"de", 4);
        assert_eq!(kept.bytes, *b"bcde");
        kept.push(b"0123456789", 4);
        assert_eq!(kept.bytes, *b"6789");
        kept.push(b"", 4);
        kept.push(b"x", 0);
        assert_eq!(kept.bytes, b"");
    }
}
