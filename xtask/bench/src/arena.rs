//! A page that two sides share, for contestants whose work is to wait for each other.
#![expect(unsafe_code, reason = "words in memory that two processes share")]

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};

const LENGTH: usize = 4096;

/// The page; each word has two cache lines for itself.
#[derive(Debug)]
pub(crate) struct Arena(MmapRaw);

impl Arena {
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = File::from(memfd_create("bench-arena", MemfdFlags::CLOEXEC)?);
        file.set_len(LENGTH as u64)?;
        Ok((Self::open(&file)?, file.into()))
    }

    pub(crate) fn open(file: &File) -> io::Result<Self> {
        let map = MmapRaw::map_raw(file)?;
        assert_eq!(map.len(), LENGTH, "one page");
        Ok(Self(map))
    }

    /// Room for a lock of somebody else's making, at least 1024 bytes.
    pub(crate) fn room(&self) -> *mut u8 {
        // SAFETY: within the page.
        unsafe { self.0.as_mut_ptr().add(2048) }
    }

    fn word(&self, index: usize) -> *mut u8 {
        assert!(index < 16, "sixteen words before the room");
        // SAFETY: within the page, as just checked.
        unsafe { self.0.as_mut_ptr().add(index * 128) }
    }

    pub(crate) fn u64(&self, index: usize) -> &AtomicU64 {
        // SAFETY: mapped as long as `self`, aligned, and any bytes are an atomic.
        unsafe { &*self.word(index).cast::<AtomicU64>() }
    }

    pub(crate) fn u32(&self, index: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.word(index).cast::<AtomicU32>() }
    }
}

// SAFETY: reached through atomics, and by locks that are made for that.
unsafe impl Sync for Arena {}

/// Words of the page.
const TURNS: [usize; 2] = [0, 1];
const READY: usize = 2;
const STOP: usize = 3;
const GUARDED: usize = 4;
const PAIRS: [usize; 8] = [5, 6, 7, 10, 11, 12, 13, 14];

impl Arena {
    pub(crate) fn is_stopped(&self) -> bool {
        self.u32(STOP).load(Ordering::Relaxed) != 0
    }

    pub(crate) fn stop(&self) {
        self.u32(STOP).store(1, Ordering::Release);
    }

    pub(crate) fn ready(&self) {
        self.u32(READY).store(1, Ordering::Release);
    }

    pub(crate) fn await_ready(&self) {
        while self.u32(READY).load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    }

    /// What pair `pair` of a crowd has done, of eight.
    pub(crate) fn operations(&self, pair: usize) -> u64 {
        self.u64(PAIRS[pair]).load(Ordering::Relaxed)
    }

    pub(crate) fn did(&self, pair: usize, operations: u64) {
        self.u64(PAIRS[pair]).fetch_add(operations, Ordering::Relaxed);
    }

    /// What the lock guards: a count that loses some when it does not.
    pub(crate) fn guarded(&self) {
        let count = self.u64(GUARDED);
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.u64(GUARDED).load(Ordering::Acquire)
    }

    /// One more turn of a side; told to the other.
    pub(crate) fn took_turn(&self, side: usize) {
        let turns = self.u64(TURNS[side]);
        turns.store(turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self, side: usize) -> u64 {
        self.u64(TURNS[side]).load(Ordering::Acquire)
    }
}
