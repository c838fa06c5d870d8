//! The claims of a queue that can be joined: a table of [`Words`], and the bytes of what may be handed out again.
//!
//! They lie in memory of their own. In front a table that grows by blocks, each entry 64 bytes; behind it the bytes, in buffers that belong
//! to an entry and stay with it when it is free, for the next message that fits.
//!
//! | word | set by | meaning |
//! | --- | --- | --- |
//! | `again` | the creator | how often a message may be handed out again after its first time |
//! | `count` | a consumer | entries of the table in use |
//! | `end` | a consumer | where the next buffer starts |
//! | `lost` | whoever holds the get lock | messages that nobody is going to do |
//! | `burial`, `lost then` | whoever holds the get lock | the entry, plus one, that is being counted lost, and what `lost` is afterwards |
//! | `returned` | who gives a claim back | 1: some entry may be returned |
//! | `joiners` | a joiner | 1: somebody sleeps until the queue is empty |
//! | `swept` | who sweeps | when owners were last looked after, in milliseconds |
//!
//! All but giving back, settling and the last three words is done under the get lock. What a death under it leaves half-done:
//!
//! | died | leaves | mended by |
//! | --- | --- | --- |
//! | while a buffer or a block is made | memory that the table does not know | the next one, who makes the same; or the next trim |
//! | between a claim and the take | a claim to a message still in the queue | [`mend`](Claims::mend), which frees it |
//! | while a message is counted lost | `burial` set | [`mend`](Claims::mend), which does the whole again: it stores totals, it does not add |

use super::buffers::Windows;
use super::own::Own;
use crate::raw::claim::{self, State, Words, is_unfinished};
use mp_core::{Encoding, Identity, park};
use mp_shm::{Format, Growable, HEADER, Mapping, WINDOW};
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

pub(crate) const FORMAT: Format = Format::plain(*b"CLMS", 1);

const AGAIN: usize = HEADER;
pub(super) const COUNT: usize = HEADER + 8;
pub(super) const END: usize = HEADER + 16;
pub(super) const LOST: usize = HEADER + 24;
pub(super) const BURIAL: usize = HEADER + 32;
pub(super) const LOST_THEN: usize = HEADER + 40;
const RETURNED: usize = HEADER + 48;
const JOINERS: usize = HEADER + 52;
pub(super) const SWEPT: usize = HEADER + 56;
pub(crate) const FIXED: usize = 64;

const ENTRY: usize = 64;
const PER_BLOCK: u64 = WINDOW / ENTRY as u64;
/// At most so many claims at once: half a million.
const BLOCKS: u64 = 512;

// Words of an entry.
const TICKET: usize = 0;
const OWNER: usize = 8;
const WAITED: usize = 16;
pub(super) const DELIVERIES: usize = 20;
pub(super) const NUMBER: usize = 24;
pub(super) const KIND: usize = 32;
const LENGTH: usize = 40;
pub(super) const PLACE: usize = 48;
pub(super) const CAPACITY: usize = 56;

/// Marks beside the encoding in `KIND`: the bytes are not kept, or its consumer said that it is not to be handed out again.
pub(super) const NOT_AGAIN: u64 = 1 << 8;
/// Its consumer settles it in its turn, by `task_done`.
pub(super) const IN_TURN: u64 = 1 << 9;

/// A claim as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(super) slot: u64,
    pub(super) ticket: u64,
    pub(super) number: u64,
    pub(crate) deliveries: u32,
}

#[derive(Debug)]
pub(crate) struct Claims {
    memory: Growable,
    blocks: Box<[OnceLock<Mapping>]>,
    pub(super) windows: Windows,
    pub(super) own: Arc<Own>,
}

/// One entry of the table.
pub(super) struct Entry<'a> {
    map: &'a Mapping,
    at: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn word(&self, offset: usize) -> &'a AtomicU64 {
        self.map.atomic_u64(self.at + offset)
    }

    pub(super) fn small(&self, offset: usize) -> &'a AtomicU32 {
        self.map.atomic_u32(self.at + offset)
    }

    pub(super) fn words(&self) -> Words<'a> {
        Words { ticket: self.word(TICKET), owner: self.word(OWNER), waited: self.small(WAITED) }
    }
}

impl Claims {
    pub(crate) fn create(again: u32) -> io::Result<Claims> {
        let memory = Growable::create(FORMAT, FIXED)?;
        memory.fixed().atomic_u64(AGAIN).store(again.into(), Relaxed);
        Ok(Claims::open(memory))
    }

    pub(crate) fn open(memory: Growable) -> Claims {
        let own = Own::of(&memory);
        let blocks = (0..BLOCKS).map(|_| OnceLock::new()).collect();
        Claims { memory, blocks, windows: Windows::default(), own }
    }

    pub(crate) fn memory(&self) -> &Growable {
        &self.memory
    }

    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        self.memory.fixed().atomic_u64(at)
    }

    pub(super) fn returned(&self) -> &AtomicU32 {
        self.memory.fixed().atomic_u32(RETURNED)
    }

    /// One while a joiner sleeps until the queue is empty.
    pub(crate) fn joiners(&self) -> &AtomicU32 {
        self.memory.fixed().atomic_u32(JOINERS)
    }

    /// How many messages nobody is going to do.
    pub(crate) fn lost(&self) -> u64 {
        self.word(LOST).load(Relaxed)
    }

    pub(super) fn again(&self) -> u64 {
        self.word(AGAIN).load(Relaxed)
    }

    fn count(&self) -> u64 {
        self.word(COUNT).load(Acquire).min(BLOCKS * PER_BLOCK)
    }

    pub(super) fn arena(&self) -> u64 {
        self.memory.first_window() + BLOCKS * WINDOW
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the blocks, less than a block")]
    pub(super) fn entry(&self, slot: u64) -> io::Result<Entry<'_>> {
        let (block, at) = ((slot / PER_BLOCK) as usize, (slot % PER_BLOCK) as usize * ENTRY);
        let place = self.blocks.get(block).ok_or_else(|| invalid("a claim outside of the table"))?;
        if place.get().is_none() {
            let offset = self.memory.first_window() + block as u64 * WINDOW;
            let map = self.memory.window(offset, WINDOW as usize)?;
            // Another thread may have been faster; its mapping is as good.
            let _ = place.set(map);
        }
        let map = place.get().ok_or_else(|| invalid("a block that is not mapped"))?;
        Ok(Entry { map, at })
    }

    /// All entries, up to the first that cannot be had: its error is the last item.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, io::Result<Entry<'_>>)> {
        let mut failed = false;
        (0..self.count()).map_while(move |slot| {
            let entry = (!failed).then(|| self.entry(slot))?;
            failed = entry.is_err();
            Some((slot, entry))
        })
    }

    /// Claims message `number`, which is about to be taken; its bytes are kept, unless it may not be handed out again.
    pub(crate) fn record(
        &self,
        number: u64,
        encoding: Encoding,
        handles: bool,
        bytes: &[u8],
    ) -> io::Result<Claimed> {
        let keep = self.again() > 0 && !handles;
        let wanted = if keep { bytes.len() as u64 } else { 0 };
        let slot = self.free_slot(wanted)?;
        let entry = self.entry(slot)?;
        if wanted > 0 {
            self.make_room(&entry, wanted)?;
            let place = entry.word(PLACE).load(Relaxed);
            self.with_window(place, wanted, |map, at| map.copy_in(at, bytes))?;
        }
        let mark = if keep { 0 } else { NOT_AGAIN };
        entry.word(KIND).store(u64::from(encoding.0) | mark, Relaxed);
        entry.word(LENGTH).store(wanted, Relaxed);
        entry.word(NUMBER).store(number, Relaxed);
        Ok(self.claim(slot, &entry, number, 1))
    }

    fn claim(&self, slot: u64, entry: &Entry<'_>, number: u64, deliveries: u32) -> Claimed {
        let ticket = claim::ticket(number, deliveries);
        entry.small(DELIVERIES).store(deliveries, Relaxed);
        entry.words().claim(Identity::current().pack(), ticket);
        Claimed { slot, ticket, number, deliveries }
    }

    /// A free entry, if possible one whose buffer holds `wanted` bytes; the table grows when none is free.
    fn free_slot(&self, wanted: u64) -> io::Result<u64> {
        thread_local! {
            static HINT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        let count = self.count();
        let hint = HINT.get().min(count);
        let (mut fallback, mut looks) = (None, 0);
        for slot in (hint..count).chain(0..hint) {
            let entry = self.entry(slot)?;
            if entry.words().ticket() == claim::FREE {
                looks += 1;
                let capacity = entry.word(CAPACITY).load(Relaxed);
                // One without a buffer yet is as good as one that fits.
                if capacity >= wanted || capacity == 0 || looks > 8 {
                    HINT.set(slot);
                    return Ok(slot);
                }
                fallback.get_or_insert(slot);
            }
        }
        let slot = fallback.map_or_else(|| self.grow(), Ok)?;
        HINT.set(slot);
        Ok(slot)
    }

    /// Adds entries, at least by half; returns the first of them.
    fn grow(&self) -> io::Result<u64> {
        let count = self.count();
        let after = (count + (count / 2).max(PER_BLOCK / 8)).min(BLOCKS * PER_BLOCK);
        if after == count {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "half a million claims are not done yet",
            ));
        }
        let (first, last) = (count.div_ceil(PER_BLOCK), after.div_ceil(PER_BLOCK));
        if last > first {
            let start = self.memory.first_window() + first * WINDOW;
            self.memory.allocate(start, (last - first) * WINDOW)?;
        }
        for slot in count..after {
            let entry = self.entry(slot)?;
            [TICKET, PLACE, CAPACITY].iter().for_each(|word| entry.word(*word).store(0, Relaxed));
        }
        self.word(COUNT).store(after, Release);
        Ok(count)
    }

    /// Whether some message may wait to be handed out again.
    #[inline]
    pub(crate) fn may_have_returned(&self) -> bool {
        self.returned().load(Acquire) != 0
    }

    /// Under the get lock: claims the oldest message that was given back, its bytes appended to `bytes`.
    pub(crate) fn take_returned(&self, bytes: &mut Vec<u8>) -> io::Result<Option<(Claimed, Encoding)>> {
        if !self.may_have_returned() {
            return Ok(None);
        }
        // Before the look: who gives one back from here on sets it again.
        self.returned().store(0, Relaxed);
        self.take_oldest_returned(bytes).inspect_err(|_| self.returned().store(1, Release))
    }

    fn take_oldest_returned(&self, bytes: &mut Vec<u8>) -> io::Result<Option<(Claimed, Encoding)>> {
        let (mut oldest, mut more): (Option<(u64, u64)>, bool) = (None, false);
        for (slot, entry) in self.entries() {
            let entry = entry?;
            if claim::state(entry.words().ticket()) != State::Returned || self.bury_if_over(slot, &entry) {
                continue;
            }
            let number = entry.word(NUMBER).load(Relaxed);
            more |= oldest.is_some();
            if oldest.is_none_or(|(known, _)| number < known) {
                oldest = Some((number, slot));
            }
        }
        if more {
            self.returned().store(1, Release);
        }
        let Some((number, slot)) = oldest else { return Ok(None) };
        let entry = self.entry(slot)?;
        let (place, length) = (entry.word(PLACE).load(Relaxed), entry.word(LENGTH).load(Relaxed));
        let size = usize::try_from(length).map_err(|_| invalid("bytes longer than memory"))?;
        if size > 0 {
            // As for any message: no reason for this process to end.
            bytes.try_reserve(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.with_window(place, length, |map, at| map.append_to(at, size, bytes))?;
        }
        let deliveries = entry.small(DELIVERIES).load(Relaxed).saturating_add(1);
        let [encoding, ..] = entry.word(KIND).load(Relaxed).to_le_bytes();
        Ok(Some((self.claim(slot, &entry, number, deliveries), Encoding(encoding))))
    }

    /// The second half of settling.
    pub(super) fn finish(&self, entry: &Entry<'_>) {
        let words = entry.words();
        words.finish(park::heavy_barrier, || _ = park::wake(words.waited, u32::MAX), || self.release(entry));
    }

    /// The message is done; false when it was not claimed by this process, or is settled already.
    pub(crate) fn settle(&self, claimed: Claimed, barrier: impl FnOnce()) -> bool {
        let Ok(entry) = self.entry(claimed.slot) else { return false };
        let (words, me) = (entry.words(), Identity::current().pack());
        let wake = || _ = park::wake(words.waited, u32::MAX);
        words.settle(me, claimed.ticket, barrier, wake, || self.release(&entry))
    }

    /// The message is to be handed out again, or with `lost` never; false when it is not this process's.
    pub(crate) fn give_back(&self, claimed: Claimed, lost: bool) -> bool {
        let Ok(entry) = self.entry(claimed.slot) else { return false };
        let words = entry.words();
        // A forked child has copies of its parent's claims.
        if words.owner.load(Relaxed) != Identity::current().pack() || words.ticket() != claimed.ticket {
            return false;
        }
        if lost {
            entry.word(KIND).fetch_or(NOT_AGAIN, Relaxed);
        }
        self.return_it(&entry, claimed.ticket)
    }

    pub(super) fn return_it(&self, entry: &Entry<'_>, ticket: u64) -> bool {
        // Before it is so, for a death in between; and after, for somebody who looked in between.
        self.returned().store(1, Release);
        mp_core::step!("queue.return", 1);
        let given = entry.words().give_back(ticket);
        mp_core::step!("queue.return", 2);
        self.returned().store(1, Release);
        given
    }

    /// Under the get lock: an unfinished claim, looking from `hint` on; the word to sleep on is announced.
    pub(crate) fn unfinished_slot(&self, hint: u64) -> io::Result<Option<u64>> {
        let count = self.count();
        let hint = hint.min(count);
        for slot in (hint..count).chain(0..hint) {
            let words = self.entry(slot)?.words();
            if is_unfinished(words.ticket()) {
                words.waited.store(1, Relaxed);
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Sleeps until the claim in `slot`, which was announced, is settled or the slice is over.
    pub(crate) fn sleep_on(&self, slot: u64, slice: std::time::Duration) -> io::Result<()> {
        let words = self.entry(slot)?.words();
        if words.announce_sleep(park::heavy_barrier) {
            park::sleep(words.waited, 1, slice);
        }
        Ok(())
    }

    /// How many claims are unfinished, and how many of these wait to be handed out again.
    pub(crate) fn unfinished(&self) -> (u64, u64) {
        let states = self.entries().filter_map(|(_, entry)| Some(claim::state(entry.ok()?.words().ticket())));
        states.fold((0, 0), |(all, returned), state| match state {
            State::Claimed => (all + 1, returned),
            State::Returned => (all + 1, returned + 1),
            State::Free | State::Settling => (all, returned),
        })
    }
}

pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
