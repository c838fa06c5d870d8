//! The crash-safe byte ring under pipes and queues. Its protocol is in `README.md` beside this file.
#![doc = include_str!("README.md")]

mod layout;
mod raw;
mod reader;
mod region;
mod spare;
mod sync;
mod writer;

pub use layout::{Direction, Growth, Table};
pub use reader::{Head, ReaderCache};
pub use writer::{Record, WriteError, WriterCache};

/// Longer records than this never go the way of [`Ring::write_plain`].
pub const PLAIN_MOST: usize = (SMALL_REGION / PART) as usize - 16;

use layout::*;
use mp_core::Encoding;
use mp_shm::{Growable, View};
use spare::Spare;
use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// The shared memory holds something that no writer of this protocol left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared memory of a pipe or queue is corrupt: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}

/// How the other side was found, and what is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It looks by itself, or was woken.
    Awake,
    /// It wants a bell.
    Asleep,
    /// It said that it dozes, and nobody was there to be woken: it is about to look again, or it has died.
    Nobody,
}

/// One ring in shared memory. At any time at most one thread of all processes may write, and one may read: a pipe's ends
/// are each one's own, a queue holds a robust lock for each side.
#[derive(Clone, Debug)]
pub struct Ring {
    memory: Growable,
    words: View<Words>,
    small_words: View<SmallWords>,
    /// Where this ring's words start in the fixed part.
    at: usize,
    /// Where its regions start in the file.
    base: u64,
    table: Table,
}

impl Ring {
    /// The ring at `at` in the fixed part of `memory`, whose regions lie in the share of the file that `direction` has.
    ///
    /// # Panics
    ///
    /// When the fixed part does not hold it.
    #[must_use]
    pub fn new(memory: Growable, at: usize, direction: Direction, table: Table) -> Ring {
        let base = memory.first_window() + direction.share();
        let (words, small_words) = (memory.view(at), memory.view(at));
        Ring { memory, words, small_words, at, base, table }
    }

    #[inline]
    fn entries(&self) -> u64 {
        self.table.entries().into()
    }

    /// The memory it lives in.
    #[must_use]
    pub fn memory(&self) -> &Growable {
        &self.memory
    }

    /// The word at `offset` before the table.
    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words[offset / 8]
    }

    #[inline(always)]
    fn small_word(&self, offset: usize) -> &AtomicU32 {
        &self.small_words[offset / 4]
    }

    /// A word of the table.
    fn table_word(&self, offset: usize) -> &AtomicU64 {
        self.memory.fixed().atomic_u64(self.at + offset)
    }

    /// Where the position behind message `n` stands.
    #[inline(always)]
    fn tail_of(&self, n: u64) -> &AtomicU64 {
        &self.words[TAIL[0] / 8 + raw::parity(n)]
    }

    #[inline(always)]
    fn head_of(&self, n: u64) -> &AtomicU64 {
        &self.words[HEAD[0] / 8 + raw::parity(n)]
    }

    #[inline(always)]
    fn tails(&self) -> [&AtomicU64; 2] {
        // Not by `map`: an array that comes back through memory is written by words and read by pairs of them, and that read waits until
        // all stores before it have reached the cache.
        [self.word(TAIL[0]), self.word(TAIL[1])]
    }

    #[inline(always)]
    fn heads(&self) -> [&AtomicU64; 2] {
        [self.word(HEAD[0]), self.word(HEAD[1])]
    }

    /// The memory that is kept for the next large message.
    fn spare(&self) -> Spare<'_> {
        let [state, offset, size] = SPARE.map(|at| self.word(at));
        Spare { state, offset, size }
    }

    /// How many messages were ever published.
    #[inline(always)]
    #[must_use]
    pub fn published(&self) -> u64 {
        self.word(PUBLISHED).load(Acquire)
    }

    /// How many messages were ever taken.
    #[inline(always)]
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.word(TAKEN).load(Acquire)
    }

    /// How many messages are inside; exact for whoever keeps both sides from moving, a moment old for others.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> u64 {
        // Taken first: it never overtakes what was published.
        let taken = self.taken();
        self.published().wrapping_sub(taken)
    }

    /// Whether no message is inside.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One while a reader sleeps, or wants to be rung for, two while it dozes on this word; whoever publishes swaps it to zero and wakes.
    #[inline(always)]
    #[must_use]
    pub fn reader_asleep(&self) -> &AtomicU32 {
        self.small_word(READER_ASLEEP)
    }

    /// One while a writer sleeps for space, two while it dozes on this word; whoever takes swaps it to zero and wakes.
    #[inline(always)]
    #[must_use]
    pub fn writer_asleep(&self) -> &AtomicU32 {
        self.small_word(WRITER_ASLEEP)
    }

    /// Which process has the writing end, as a packed identity; zero before the first use. Not used by queues.
    #[inline(always)]
    #[must_use]
    pub fn writer_lease(&self) -> &AtomicU64 {
        self.word(WRITER_LEASE)
    }

    /// Which process has the reading end.
    #[inline(always)]
    #[must_use]
    pub fn reader_lease(&self) -> &AtomicU64 {
        self.word(READER_LEASE)
    }

    /// The core on which the writer was last seen waiting, plus one; zero for unknown.
    #[must_use]
    pub fn writer_core(&self) -> &AtomicU32 {
        self.small_word(WRITER_CORE)
    }

    /// The core on which the reader was last seen waiting, plus one; zero for unknown.
    #[must_use]
    pub fn reader_core(&self) -> &AtomicU32 {
        self.small_word(READER_CORE)
    }

    /// Leaves the number of the core this thread runs on for the other side, in `mine`: [`writer_core`](Ring::writer_core) or
    /// [`reader_core`](Ring::reader_core). A hint: it may be old when it is read.
    pub fn announce_core(&self, mine: &AtomicU32) {
        let core = mp_core::park::core().wrapping_add(1);
        // The other side reads the line: it stays his as long as nothing changes.
        if mine.load(Relaxed) != core {
            mine.store(core, Relaxed);
        }
    }

    /// Between the store that announces a sleep and the last look; `peer` is the other side's core word.
    pub fn barrier_before_sleep(&self, peer: &AtomicU32) {
        if peer.load(Relaxed) == mp_core::park::core().wrapping_add(1) {
            // One core sees its own stores in order, and interrupting all others, as the other barrier does, would cost more than
            // the sleep. Should the peer have gone to another core just now, he may miss the word: then the slice ends the sleep.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        } else {
            mp_core::park::heavy_barrier();
        }
    }

    /// Marks: see [`layout`](self). Set once, never cleared.
    #[inline(always)]
    #[must_use]
    pub fn marks(&self) -> &AtomicU32 {
        self.small_word(MARKS)
    }

    /// Whether the writer has said that nothing more comes.
    #[must_use]
    pub fn writer_left(&self) -> bool {
        self.marks().load(Acquire) & layout::MARK_WRITER_LEFT != 0
    }

    /// Whether the reader has said that nothing more is taken.
    #[must_use]
    pub fn reader_left(&self) -> bool {
        self.marks().load(Acquire) & layout::MARK_READER_LEFT != 0
    }

    /// Says that nothing more comes: what was published before is seen by whoever sees this.
    pub fn leave_writing(&self) {
        self.marks().fetch_or(layout::MARK_WRITER_LEFT, Release);
    }

    /// Says that nothing more is taken.
    pub fn leave_reading(&self) {
        self.marks().fetch_or(layout::MARK_READER_LEFT, Release);
    }

    /// Notes whether this process can be reached by the cheap barriers; until all can, everybody fences fully.
    pub fn join(&self) {
        if !mp_core::park::register_light_barrier() {
            self.marks().fetch_or(MARK_FULL_FENCES, Release);
        }
    }

    /// After publishing or taking: whether the other side, whose sleep word is `asleep`, sleeps and must be woken.
    #[inline(always)]
    pub fn must_wake(&self, asleep: &AtomicU32) -> bool {
        raw::must_wake(asleep, || self.barrier_before_look()) != raw::AWAKE
    }

    /// As [`must_wake`](Ring::must_wake), for a side that may also doze: how it sleeps, after it was woken where that is by its word.
    #[inline(always)]
    pub(crate) fn wake(&self, asleep: &AtomicU32) -> Found {
        match raw::must_wake(asleep, || self.barrier_before_look()) {
            raw::AWAKE => Found::Awake,
            raw::DOZING if mp_core::park::wake(asleep, 1) > 0 => Found::Awake,
            raw::DOZING => Found::Nobody,
            _ => Found::Asleep,
        }
    }

    /// Sleeps on `asleep` while there is `reason` to, a moment at most. `peer` is the other side's core word.
    pub(crate) fn doze(
        &self,
        asleep: &AtomicU32,
        peer: &AtomicU32,
        at_most: Duration,
        reason: impl FnOnce() -> bool,
    ) {
        let barrier = || {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if peer.load(Relaxed) != mp_core::park::core().wrapping_add(1) {
                // What the other core stored before it looked has come into sight behind these, though nothing promises it.
                (0..32).for_each(|_| std::hint::spin_loop());
            }
        };
        mp_core::step!("pipe.doze", 1);
        raw::doze(asleep, barrier, reason, || {
            mp_core::step!("pipe.doze", 2);
            mp_core::park::sleep(asleep, raw::DOZING, at_most);
            mp_core::step!("pipe.doze", 3);
        });
    }

    /// Announces a sleep in `asleep` to who was last seen on core `peer`: false when there is no `reason` for it any more;
    /// `rung_for` is called when he rang meanwhile.
    #[inline]
    pub fn may_sleep(
        &self,
        asleep: &AtomicU32,
        peer: &AtomicU32,
        reason: impl FnOnce() -> bool,
        rung_for: impl FnOnce(),
    ) -> bool {
        raw::may_sleep(asleep, || self.barrier_before_sleep(peer), reason, rung_for)
    }

    /// Between publishing and looking at the other side's sleep word.
    #[inline(always)]
    pub fn barrier_before_look(&self) {
        if self.marks().load(Relaxed) & MARK_FULL_FENCES == 0 {
            mp_core::park::light_barrier();
        } else {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }
}

/// The header word of a record: length, encoding and number of handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeaderWord {
    length: u32,
    encoding: Encoding,
    handles: u16,
}

impl HeaderWord {
    fn pack(self) -> u64 {
        u64::from(self.length) | u64::from(self.encoding.0) << 32 | u64::from(self.handles) << 48
    }

    fn unpack(word: u64) -> HeaderWord {
        let [l0, l1, l2, l3, encoding, _, h0, h1] = word.to_le_bytes();
        HeaderWord {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            encoding: Encoding(encoding),
            handles: u16::from_le_bytes([h0, h1]),
        }
    }

    /// Bytes that the record takes in the ring.
    fn total(self) -> u64 {
        let sequence = if self.handles > 0 { 8 } else { 0 };
        8 + sequence + u64::from(self.length).next_multiple_of(8)
    }
}

#[cfg(test)]
mod tests;
