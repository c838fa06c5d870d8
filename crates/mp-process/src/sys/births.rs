//! Words that a program and its fork server share: in each the kernel leaves the pid of one child.
//!
//! A word is zero from before the order is sent until the kernel has made the child, then holds its pid. The program sets it
//! back to zero when it hands the word out for the next start; once the fork server is dead nobody writes any more.

#![expect(unsafe_code, reason = "words in memory that another process has as well")]

use super::process::above_streams;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many starts may be under way at once, ready spares among them.
pub(crate) const WORDS: usize = 1024;
const LENGTH: usize = WORDS * size_of::<u32>();

/// The mapped words.
#[derive(Debug)]
pub(crate) struct Births(MmapRaw);

impl Births {
    /// Fresh ones, all zero, and the file to hand over.
    pub(crate) fn create() -> io::Result<(Births, OwnedFd)> {
        let create = |flags| rustix::fs::memfd_create("mp-births", MemfdFlags::CLOEXEC | flags);
        // Some systems ask for the seal, older ones do not know it.
        let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))?;
        let file = above_streams(file)?;
        // Allocated, not only long: a full file system is an error here, not a signal later.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LENGTH as u64)?;
        Ok((Births::open(&file)?, file))
    }

    /// The words in `file`.
    pub(crate) fn open(file: &OwnedFd) -> io::Result<Births> {
        let length = File::from(file.as_fd().try_clone_to_owned()?).metadata()?.len();
        if length != LENGTH as u64 {
            return Err(io::Error::other("these are no words of a fork server"));
        }
        Ok(Births(MmapOptions::new().len(LENGTH).map_raw(file.as_raw_fd())?))
    }

    /// The children of this process shall not have the words.
    pub(crate) fn keep_from_children(&self) {
        // One page of memory more in each child if it fails, no more.
        let _ = self.0.advise(memmap2::Advice::DontFork);
    }

    pub(crate) fn word(&self, index: usize) -> Option<&AtomicU32> {
        if index >= WORDS {
            return None;
        }
        let word = self.0.as_mut_ptr().cast::<AtomicU32>();
        // SAFETY: inside the mapping, by the comparison and the length that was checked when it was made.
        let word = unsafe { word.add(index) };
        // SAFETY: aligned as the page is, alive as long as `self`, and touched by both processes and the kernel as an atomic.
        Some(unsafe { &*word })
    }

    /// Makes a word zero, for an order; none where there is no such word.
    ///
    /// The fork server does it again just before it makes the child: its own access brings the page in, so that the kernel's write,
    /// which would be left out silently if a deadly signal met it while it waited for the page, does not have to wait.
    pub(crate) fn clear(&self, index: usize) -> Option<&AtomicU32> {
        // Relaxed: the order goes through a socket.
        self.word(index).inspect(|word| word.store(0, Ordering::Relaxed))
    }

    /// The pid that the kernel left in a word; none before there was a child.
    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        // Acquire: what the fork server did before the child existed is not of interest; the pid stands for itself.
        self.word(index).map(|word| word.load(Ordering::Acquire)).filter(|&pid| pid != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_the_same_words() {
        let (ours, file) = Births::create().unwrap();
        let theirs = Births::open(&file).unwrap();
        assert_eq!(ours.pid(WORDS - 1), None);
        theirs.word(WORDS - 1).unwrap().store(7, Ordering::Release);
        assert_eq!(ours.pid(WORDS - 1), Some(7));
        assert!(ours.word(WORDS).is_none());
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let file = File::open("/dev/null").unwrap();
        assert!(Births::open(&file.into()).is_err());
    }
}
