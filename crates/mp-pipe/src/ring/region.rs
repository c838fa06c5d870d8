//! Regions: the stretches of the file in which records lie.

use super::layout::*;
use super::spare::Extent;
use super::{Corrupt, Ring};
use mp_shm::{Mapping, WINDOW};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// One region, mapped in this process.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) index: u64,
    /// The first position in it.
    pub(super) start: u64,
    pub(super) size: u64,
    /// `position - start` is cut by this: a ring's size less one, or nothing for a region that is used once.
    mask: u64,
    /// Where it lies in the file.
    offset: u64,
    map: Mapping,
}

/// The regions that a side has mapped: the one it is at, and large ones before it, whose memory comes again.
#[derive(Debug, Default)]
pub(super) struct Regions {
    pub(super) current: Option<Region>,
    before: Vec<Region>,
}

/// Large messages go around in the memory of three at most: one read from, one written to, one on offer or about to be.
const BEFORE: usize = 2;

/// What the table says of a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) start: u64,
}

impl Region {
    #[inline(always)]
    pub(super) fn is_ring(&self) -> bool {
        self.mask != u64::MAX
    }

    /// How many bytes from `tail` on may be written when everything before `space` was taken.
    #[inline(always)]
    pub(super) fn room(&self, tail: u64, space: u64) -> u64 {
        let oldest = if self.is_ring() { space.max(self.start) } else { self.start };
        self.size.saturating_sub(tail.wrapping_sub(oldest))
    }

    /// The place of `position` in the mapping.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a position cut to the mapping's length fits a usize"
    )]
    #[inline(always)]
    fn place(&self, position: u64) -> usize {
        (position.wrapping_sub(self.start) & self.mask) as usize
    }

    /// The word at `position`, which is a multiple of eight; an error outside of the region.
    #[inline]
    pub(super) fn word(&self, position: u64) -> Result<&std::sync::atomic::AtomicU64, Corrupt> {
        let place = self.place(position);
        if place > self.map.len() - 8 || !place.is_multiple_of(8) {
            return Err(Corrupt("a record lies outside of its region"));
        }
        Ok(self.map.atomic_u64(place))
    }

    /// The place of a record of `total` bytes at `position` if it lies there in one piece, as all do but those around the end of a ring.
    #[inline(always)]
    pub(super) fn in_one_piece(&self, position: u64, total: u64) -> Option<usize> {
        let place = self.place(position);
        let length = usize::try_from(total).ok()?;
        (place.is_multiple_of(8) && length <= self.map.len() && place <= self.map.len() - length)
            .then_some(place)
    }

    /// Asks for the cache lines of a record of `total` bytes as far ahead of `position` as some more records reach. Those lines are in the
    /// reader's cache since the last turn around the ring; without this, whoever gives a lock back behind his record waits for each of them.
    #[inline(always)]
    pub(super) fn will_write_ahead(&self, position: u64, total: u64) {
        const AHEAD: u64 = 512;
        const LINE: u64 = 64;
        // Of longer records the copy itself has many on the way at once.
        if total > 4 * LINE {
            return;
        }
        for line in 0..=total / LINE {
            let at = self.place(position.wrapping_add(AHEAD + line * LINE)) & !7;
            if at + 8 <= self.map.len() {
                mp_core::park::will_write(self.map.atomic_u32(at));
            }
        }
    }

    /// The bytes behind `place`, which [`in_one_piece`](Region::in_one_piece) found.
    #[inline(always)]
    pub(super) fn map(&self) -> &Mapping {
        &self.map
    }

    /// Writes `bytes` at `position`, around the end of a ring where needed. There must be room.
    #[inline]
    pub(super) fn write(&self, position: u64, bytes: &[u8]) {
        let place = self.place(position);
        let (first, rest) = bytes.split_at(bytes.len().min(self.map.len() - place));
        self.map.copy_in(place, first);
        if !rest.is_empty() {
            self.map.copy_in(0, rest);
        }
    }

    /// The two stretches in which `length` bytes at `position` lie.
    #[inline]
    fn stretches(&self, position: u64, length: usize) -> Result<[(usize, usize); 2], Corrupt> {
        let place = self.place(position);
        if place > self.map.len() || length > self.map.len() {
            return Err(Corrupt("a record is longer than its region"));
        }
        let first = length.min(self.map.len() - place);
        if first < length && !self.is_ring() {
            return Err(Corrupt("a record runs over the end of its region"));
        }
        Ok([(place, first), (0, length - first)])
    }

    /// Appends `length` bytes from `position` to `out`.
    #[inline]
    pub(super) fn append_to(&self, position: u64, length: usize, out: &mut Vec<u8>) -> Result<(), Corrupt> {
        for (place, length) in self.stretches(position, length)? {
            self.map.append_to(place, length, out);
        }
        Ok(())
    }

    /// Copies the bytes at `position` into all of `out`.
    #[inline]
    pub(super) fn copy_out(&self, position: u64, out: &mut [u8]) -> Result<(), Corrupt> {
        let [first, rest] = self.stretches(position, out.len())?;
        let (front, back) = out.split_at_mut(first.1);
        self.map.copy_out(first.0, front);
        if !back.is_empty() {
            self.map.copy_out(rest.0, back);
        }
        Ok(())
    }
}

impl Regions {
    /// Forgets those before.
    pub(super) fn trim(&mut self) {
        self.before.clear();
    }
}

impl Ring {
    #[expect(clippy::cast_possible_truncation, reason = "less than the number of entries")]
    fn entry_at(&self, index: u64) -> usize {
        TABLE + (index % self.entries()) as usize * ENTRY
    }

    pub(super) fn entry(&self, index: u64) -> Entry {
        let at = self.entry_at(index);
        let read = |offset: usize| self.table_word(at + offset).load(Relaxed);
        Entry { offset: read(0), size: read(8), start: read(16) }
    }

    /// How many regions there were ever. Acquire pairs with the Release in [`Ring::add_region`].
    #[inline(always)]
    pub(super) fn regions(&self) -> u64 {
        self.word(REGIONS).load(Acquire)
    }

    /// Makes region `index` the current one of `regions`.
    pub(super) fn go_to_region(&self, regions: &mut Regions, index: u64) -> Result<(), std::io::Error> {
        let entry = self.entry(index);
        let same = |before: &Region| (before.offset, before.size) == (entry.offset, entry.size);
        let again = regions.before.iter().position(same);
        let again = again.map(|at| Region { index, start: entry.start, ..regions.before.remove(at) });
        let region = match again {
            Some(region) => region,
            None => self.map_region(index)?,
        };
        let large = |region: &Region| is_passed_on(region.size);
        if let Some(left) = regions.current.replace(region).filter(large) {
            regions.before.truncate(BEFORE - 1);
            regions.before.insert(0, left);
        }
        Ok(())
    }

    pub(super) fn map_region(&self, index: u64) -> Result<Region, std::io::Error> {
        let entry = self.entry(index);
        let size = usize::try_from(entry.size).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        let known = entry.size >= WINDOW && entry.size.is_multiple_of(8) && entry.offset >= self.base;
        if !known {
            return Err(corrupt(Corrupt("a region's entry makes no sense")));
        }
        let map = self.memory().window(entry.offset, size)?;
        let mask = if entry.size.is_power_of_two() { entry.size - 1 } else { u64::MAX };
        Ok(Region { index, start: entry.start, size: entry.size, mask, offset: entry.offset, map })
    }

    /// Behind all memory that any region has had. The word lags behind the table by one region at most.
    fn end(&self) -> u64 {
        let last = self.regions().checked_sub(1).map(|last| self.entry(last));
        let known = self.word(END).load(Relaxed).max(self.base);
        last.map_or(known, |last| known.max(last.offset.saturating_add(last.size)))
    }

    /// Memory for a region of `size` bytes: what the reader has left, if that fits, else new.
    fn memory_for(&self, size: u64) -> std::io::Result<Extent> {
        self.word(END).store(self.end(), Relaxed);
        self.settle_left_spare();
        // Only a region that is used once may be larger than it was asked for.
        let fits = |there: u64| {
            !there.is_power_of_two() && !size.is_power_of_two() && (size..=size * 2).contains(&there)
        };
        if let Some(extent) = self.spare().take(fits) {
            return Ok(extent);
        }
        let extent = Extent { offset: self.end(), size };
        self.memory().allocate(extent.offset, size)?;
        Ok(extent)
    }

    /// A spare that a dead writer took: the table names it, or it goes back.
    fn settle_left_spare(&self) {
        let Some(left) = self.spare().left() else { return };
        let used = self.regions().checked_sub(1).is_some_and(|last| self.entry(last).offset == left.offset);
        if !used {
            self.give_extent_back(left);
        }
        self.spare().done();
    }

    /// Failing to give memory back costs memory, nothing else.
    pub(super) fn give_extent_back(&self, extent: Extent) {
        if extent.offset >= self.base && extent.offset.saturating_add(extent.size) <= self.base + SHARE {
            let _ = self.memory().give_back(extent.offset, extent.size);
        }
    }

    /// Appends a region of `size` bytes that starts at position `start`. `None` when the table is full.
    ///
    /// Called by the writer alone, with the tail as `start`.
    pub(super) fn add_region(&self, size: u64, start: u64) -> std::io::Result<Option<u64>> {
        let index = self.regions();
        // Acquire pairs with the Release in `Ring::leave_region`: the slot's old entry is not read any more.
        if index.wrapping_sub(self.word(FREED).load(Acquire)) >= self.entries() {
            return Ok(None);
        }
        let Extent { offset, size } = self.memory_for(size)?;
        mp_core::step!("ring.grow", 1);
        let at = self.entry_at(index);
        self.table_word(at).store(offset, Relaxed);
        self.table_word(at + 8).store(size, Relaxed);
        self.table_word(at + 16).store(start, Relaxed);
        mp_core::step!("ring.grow", 2);
        self.word(REGIONS).store(index.wrapping_add(1), Release);
        mp_core::step!("ring.grow", 3);
        if self.spare().left().is_some() {
            self.spare().done();
        }
        Ok(Some(index))
    }

    /// After a writer died: gives back what it may have allocated, or taken over, for a region that the table does not name. Does
    /// nothing when there is nothing.
    pub fn mend_writer(&self) {
        self.settle_left_spare();
        let end = self.end();
        let limit = self.base.saturating_add(SHARE);
        if (self.base..limit).contains(&end) {
            // Failing to give memory back costs memory, nothing else.
            let _ = self.memory().give_back(end, limit - end);
        }
    }

    /// The reader goes on to region `next`; the memory of those before it is kept for the next large message, of which there is one now, or
    /// given back.
    pub(super) fn leave_region(&self, next: u64) {
        self.free_left_regions();
        self.word(REGION).store(next, Relaxed);
        mp_core::step!("ring.free", 1);
        self.free_regions(|region, extent| {
            let offered = is_passed_on(extent.size) && self.offer(region, extent);
            if offered {
                mp_core::step!("ring.spare", 1);
            }
            offered
        });
    }

    /// Offers the memory of `region`, in place of what is on offer and has fitted nobody.
    fn offer(&self, region: u64, extent: Extent) -> bool {
        self.spare().offer(region, extent) || {
            self.give_spare_back();
            self.spare().offer(region, extent)
        }
    }

    /// Gives back what was offered and nobody took.
    pub(super) fn give_spare_back(&self) {
        if let Some(extent) = self.spare().reclaim() {
            mp_core::step!("ring.spare", 2);
            self.give_extent_back(extent);
            self.spare().done();
        }
    }

    /// After a death in the middle of [`leave_region`](Ring::leave_region): gives back what lies between `freed` and the region read from. None of
    /// that is offered, since the dead may have given it back already; what they offered is left alone.
    pub(super) fn free_left_regions(&self) {
        self.free_regions(|region, _| self.spare().was_offered(region));
    }

    /// Gives back each region that was left, unless it `is_kept`.
    fn free_regions(&self, is_kept: impl Fn(u64, Extent) -> bool) {
        let (mut freed, region) = (self.word(FREED).load(Relaxed), self.word(REGION).load(Relaxed));
        // Never more than the table holds, whatever the words say.
        let most = self.entries();
        for _ in 0..most {
            if freed >= region {
                return;
            }
            let Entry { offset, size, .. } = self.entry(freed);
            let extent = Extent { offset, size };
            if !is_kept(freed, extent) {
                self.give_extent_back(extent);
            }
            mp_core::step!("ring.free", 2);
            freed += 1;
            self.word(FREED).store(freed, Release);
        }
    }
}

pub(super) fn corrupt(error: Corrupt) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}
