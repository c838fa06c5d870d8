//! Where the words of a ring lie, in bytes from its start. Lines that different sides write are 128 bytes apart, since
//! processors fetch pairs of lines.

use std::sync::atomic::{AtomicU32, AtomicU64};

// Written by the writer on each message.
pub(super) const PUBLISHED: usize = 0;
pub(super) const TAIL: [usize; 2] = [8, 16];
pub(super) const HANDLES: usize = 24;
pub(super) const WRITER_LEASE: usize = 32;
pub(super) const WRITER_CORE: usize = 40;

// Written rarely.
pub(super) const REGIONS: usize = 128;
pub(super) const MARKS: usize = 136;
pub(super) const END: usize = 144;
pub(super) const SPARE: [usize; 3] = [152, 160, 168];

// Written by the reader on each message.
pub(super) const TAKEN: usize = 256;
pub(super) const HEAD: [usize; 2] = [264, 272];
pub(super) const REGION: usize = 280;
pub(super) const FREED: usize = 288;
pub(super) const READER_LEASE: usize = 296;
pub(super) const READER_CORE: usize = 304;

// Written by the reader now and then, read by the writer now and then.
pub(super) const SPACE: usize = 384;

// Written by a sleeper, looked at by the other side on each message.
pub(super) const READER_ASLEEP: usize = 512;
pub(super) const WRITER_ASLEEP: usize = 640;

pub(super) const TABLE: usize = 768;

/// Everything before the table, by the size of word with which it is used.
pub(super) type Words = [AtomicU64; TABLE / 8];
pub(super) type SmallWords = [AtomicU32; TABLE / 4];

pub(super) const ENTRY: usize = 24;

/// How many regions a ring may have at once. More cost 24 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// For a ring that grows only when it is empty.
    Short,
    /// For one that grows whenever it is full: 32 GiB in its largest regions.
    Long,
}

impl Table {
    pub(super) const fn entries(self) -> u16 {
        match self {
            Table::Short => 64,
            Table::Long => 2048,
        }
    }

    /// Bytes that a ring takes in the fixed part of its memory.
    #[must_use]
    pub const fn fixed(self) -> usize {
        (TABLE + ENTRY * self.entries() as usize).next_multiple_of(128)
    }
}

/// Some process could not register for cheap barriers: everybody fences fully.
pub(super) const MARK_FULL_FENCES: u32 = 1;

/// The writing half of an end is gone while its reading half lives: nothing more comes.
pub(super) const MARK_WRITER_LEFT: u32 = 2;

/// The reading half of an end is gone while its writing half lives: nothing more is taken.
pub(super) const MARK_READER_LEFT: u32 = 4;

/// Which of two rings in one memory this is: each has a share of the file's offsets to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The first, or only one.
    There,
    /// The second.
    Back,
}

/// How many of the file's offsets each direction has: 64 TiB, more than any machine's memory.
pub(super) const SHARE: u64 = 1 << 46;

impl Direction {
    pub(super) const fn share(self) -> u64 {
        match self {
            Direction::There => 0,
            Direction::Back => SHARE,
        }
    }
}

/// When a ring may take more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Only for a message that is large for it, and only when it is empty: a full ring makes the writer wait.
    WhenEmpty,
    /// Whenever it is full.
    Always,
}

/// The size of the first region, and of the one that a large ring goes back to.
pub(super) const SMALL_REGION: u64 = 64 << 10;
/// A ring that has grown no further than this stays so: going back and growing again each time it fills up would cost more than the memory.
pub(super) const KEPT_REGION: u64 = 256 << 10;
/// The largest region whose memory is kept for the next message while there is one.
const SPARE_MOST: u64 = (64 << 20) + mp_shm::WINDOW;
/// The largest region that is used as a ring.
pub(super) const LARGE_REGION: u64 = 16 << 20;
/// A message larger than this part of the largest ring gets a region of its own.
pub(super) const PART: u64 = 4;

/// Whether the memory of a region of `size` bytes is kept for the next message: it is one that is used once, and not too large.
pub(super) const fn is_passed_on(size: u64) -> bool {
    !size.is_power_of_two() && size <= SPARE_MOST
}
