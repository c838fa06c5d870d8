//! Memory of a large message that the next one gets: who has it, as a state machine without memory or system call, so that
//! `tests/loom.rs` runs it in every interleaving.
//!
//! Clearing new memory, faulting it in and giving it back take several times as long as the two copies of a large message. So a reader who goes
//! on to the next message *offers* the region he leaves, and a writer in need of one takes it.
//!
//! | state | who may change it | to | by |
//! | --- | --- | --- | --- |
//! | nothing | the reader | offered | leaving a region: [`Spare::offer`] |
//! | | the reader | returning | an idle look at the region he reads from: [`Spare::begin_return`] |
//! | offered | the writer | taken | needing a region: [`Spare::take`] |
//! | | the reader | returning | an idle look: [`Spare::reclaim`] |
//! | taken | the writer | nothing | the table names the region: [`Spare::done`] |
//! | returning | the reader | nothing | the system has it: [`Spare::done`] |
//!
//! 1. Beside the state stands which region the memory was, as a number that only rises: a region that was offered, or returned, is so once.
//! 2. Where the memory lies is written in *nothing*, by the reader, and read in *offered* and *taken* by the writer. A state that did not change
//!    while it was read vouches for what was read, by 1.
//! 3. Offered memory is really there: what was returned in part is never offered, nor what a dead reader may have given back, which is all between
//!    `freed` and `region` that he did not offer.
//!
//! | who dies | leaves | which |
//! | --- | --- | --- |
//! | the reader, before `offer`'s store | nothing, `freed` behind `region` | the next reader gives the memory back |
//! | … after it | offered, `freed` behind `region` | the next reader sees by 1 that it was dealt with |
//! | the writer, in *taken* | taken | who mends, or the next writer, looks whether the last region is it; if not, gives it back |
//! | the reader, in *returning* | returning | the next idle reader does it again; twice does no harm |

use super::sync::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const NOTHING: u64 = 0;
const OFFERED: u64 = 1;
const TAKEN: u64 = 2;
const RETURNING: u64 = 3;

/// Where memory lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The three words: the state with the region's number, and where its memory lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare<'a> {
    pub(super) state: &'a AtomicU64,
    pub(super) offset: &'a AtomicU64,
    pub(super) size: &'a AtomicU64,
}

/// The number of region `region` once it was returned while it was still read from, and once it was offered.
const fn returned(region: u64) -> u64 {
    region.wrapping_mul(2).wrapping_add(1)
}

const fn offered(region: u64) -> u64 {
    region.wrapping_mul(2).wrapping_add(2)
}

impl Spare<'_> {
    fn load(self) -> (u64, u64) {
        // Acquire: who sees a state sees where the memory lies, and what was done to it before.
        let state = self.state.load(Acquire);
        (state >> 2, state & 3)
    }

    fn store(self, number: u64, kind: u64) {
        self.state.store(number << 2 | kind, Release);
    }

    fn change(self, number: u64, from: u64, to: u64) -> bool {
        self.state.compare_exchange(number << 2 | from, number << 2 | to, AcqRel, Relaxed).is_ok()
    }

    /// Relaxed: the state vouches for it.
    fn extent(self) -> Extent {
        Extent { offset: self.offset.load(Relaxed), size: self.size.load(Relaxed) }
    }

    fn put(self, extent: Extent, number: u64, kind: u64) {
        self.offset.store(extent.offset, Relaxed);
        self.size.store(extent.size, Relaxed);
        self.store(number, kind);
    }

    /// The reader: whether the memory of `region` was offered, whatever became of it.
    pub(super) fn was_offered(self, region: u64) -> bool {
        self.load().0 >= offered(region)
    }

    /// The reader: offers the memory of `region`, which he has left. False when it is his to give back.
    pub(super) fn offer(self, region: u64, extent: Extent) -> bool {
        let (number, kind) = self.load();
        if kind != NOTHING || number >= returned(region) {
            return false;
        }
        self.put(extent, offered(region), OFFERED);
        true
    }

    /// The reader: whether he may give back `extent`, the part of `region` that he has read, and has not given back yet.
    /// [`done`](Spare::done) follows.
    pub(super) fn begin_return(self, region: u64, extent: Extent) -> bool {
        let (number, kind) = self.load();
        let more = number == returned(region) && self.extent().size < extent.size;
        if kind != NOTHING || (number >= returned(region) && !more) {
            return false;
        }
        self.put(extent, returned(region), RETURNING);
        true
    }

    /// The reader: what was offered and is not wanted, to be given back. [`done`](Spare::done) follows.
    pub(super) fn reclaim(self) -> Option<Extent> {
        let (number, kind) = self.load();
        let ours = kind == RETURNING || (kind == OFFERED && self.change(number, OFFERED, RETURNING));
        ours.then(|| self.extent())
    }

    /// The writer: memory that `fits` him. [`done`](Spare::done) follows.
    pub(super) fn take(self, fits: impl FnOnce(u64) -> bool) -> Option<Extent> {
        let (number, kind) = self.load();
        let extent = self.extent();
        (kind == OFFERED && fits(extent.size) && self.change(number, OFFERED, TAKEN)).then_some(extent)
    }

    /// The writer: what one before him took and died with.
    pub(super) fn left(self) -> Option<Extent> {
        (self.load().1 == TAKEN).then(|| self.extent())
    }

    /// Whoever took it, or gave it back: that is done.
    pub(super) fn done(self) {
        self.store(self.load().0, NOTHING);
    }
}
