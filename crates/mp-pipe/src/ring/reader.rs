//! The reading side.

use super::layout::*;
use super::raw;
use super::region::{Regions, corrupt};
use super::spare::Extent;
use super::{Corrupt, HeaderWord, Ring};
use mp_core::Encoding;
use mp_core::park::Gather;
use mp_shm::WINDOW;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// What stands before the bytes of the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many bytes it has.
    pub length: usize,
    /// How they are to be read.
    pub encoding: Encoding,
    /// How many handles travel beside them.
    pub handles: u16,
    /// The number under which they were sent.
    pub sequence: u64,
    position: u64,
    bytes_at: u64,
    total: u64,
    taken: u64,
}

/// What this process remembers of the reading side; a fresh one is always right, only slower.
#[derive(Debug, Default)]
pub struct ReaderCache {
    regions: Regions,
    /// How many messages were published when last looked.
    published: u64,
    gather: Gather,
    /// The last `space` this process stored.
    space: u64,
}

impl ReaderCache {
    /// How large the region is that is read from.
    #[must_use]
    pub fn region_size(&self) -> u64 {
        self.regions.current.as_ref().map_or(0, |region| region.size)
    }

    /// Whether the memory of the region that is read from may be the next large message's.
    #[must_use]
    pub fn may_pass_on(&self) -> bool {
        self.regions.current.as_ref().is_some_and(|region| is_passed_on(region.size))
    }

    /// `published` messages were seen to be there, with Acquire, by this process.
    #[inline(always)]
    pub fn have_seen(&mut self, published: u64) {
        // Behind what is known already when another thread has looked since.
        if published.wrapping_sub(self.published).cast_signed() > 0 {
            self.published = published;
        }
    }
}

impl Ring {
    /// The way of most messages: what the next one is, if there is one without handles in the region that was read from before.
    /// `None` also when anything is not as it should be: [`peek`](Ring::peek) then says what.
    #[inline(always)]
    pub fn look(&self, cache: &mut ReaderCache) -> Option<Head> {
        let taken = self.word(TAKEN).load(Relaxed);
        if cache.published.wrapping_sub(taken).cast_signed() <= 0 {
            let published = self.word(PUBLISHED).load(Acquire);
            let known = published.wrapping_sub(taken);
            cache.published = published;
            if known.cast_signed() <= 0 {
                return None;
            }
            cache.published = cache.gather.more(published, known, || self.word(PUBLISHED).load(Acquire));
        }
        let region = cache.regions.current.as_ref()?;
        let current = region.index == self.word(REGION).load(Relaxed);
        if !current || region.index.wrapping_add(1) != self.regions() {
            return None;
        }
        let position = self.head_of(taken).load(Relaxed);
        let header = HeaderWord::unpack(region.word(position).ok()?.load(Relaxed));
        let total = header.total();
        if header.handles > 0 || total > region.size {
            return None;
        }
        let bytes_at = position.wrapping_add(8);
        let (length, encoding) = (header.length as usize, header.encoding);
        Some(Head { length, encoding, handles: 0, sequence: 0, position, bytes_at, total, taken })
    }

    /// What the next message is, if there is one.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the shared memory is corrupt; else when the region cannot be mapped.
    pub fn peek(&self, cache: &mut ReaderCache) -> io::Result<Option<Head>> {
        let taken = self.word(TAKEN).load(Relaxed);
        // Equal, or behind when another process has taken since this one looked.
        if cache.published.wrapping_sub(taken).cast_signed() <= 0 {
            cache.published = self.word(PUBLISHED).load(Acquire);
            match cache.published.wrapping_sub(taken).cast_signed() {
                0 => return Ok(None),
                // Not an empty ring: whoever waits for it to fill would look again and again.
                ..0 => return Err(corrupt(Corrupt("more was taken than was sent"))),
                _ => {}
            }
        }
        let position = self.head_of(taken).load(Relaxed);
        self.region_of(cache, position)?;
        let region = cache.regions.current.as_ref().ok_or_else(|| corrupt(Corrupt("no region")))?;
        let header = HeaderWord::unpack(region.word(position).map_err(corrupt)?.load(Relaxed));
        let (sequence, bytes_at) = if header.handles > 0 {
            (region.word(position.wrapping_add(8)).map_err(corrupt)?.load(Relaxed), 16)
        } else {
            (0, 8)
        };
        let total = header.total();
        if total > region.size {
            return Err(corrupt(Corrupt("a record is longer than its region")));
        }
        Ok(Some(Head {
            length: header.length as usize,
            encoding: header.encoding,
            handles: header.handles,
            sequence,
            position,
            bytes_at: position.wrapping_add(bytes_at),
            total,
            taken,
        }))
    }

    /// Appends the bytes of the message that [`peek`](Ring::peek) just showed to `out`. It is still in the ring afterwards.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the shared memory is corrupt, `OutOfMemory` when `out` cannot be made so long.
    #[inline(always)]
    pub fn copy_to(&self, cache: &ReaderCache, head: &Head, out: &mut Vec<u8>) -> io::Result<()> {
        let region = cache.regions.current.as_ref().ok_or_else(|| corrupt(Corrupt("no region")))?;
        // How long it is somebody else decides: no reason for this process to end.
        out.try_reserve(head.length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        region.append_to(head.bytes_at, head.length, out).map_err(corrupt)
    }

    /// As [`copy_to`](Ring::copy_to), into `out`, which has as many bytes as the message.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the shared memory is corrupt.
    #[inline(always)]
    pub fn copy_into(&self, cache: &ReaderCache, head: &Head, out: &mut [u8]) -> io::Result<()> {
        let region = cache.regions.current.as_ref().ok_or_else(|| corrupt(Corrupt("no region")))?;
        region.copy_out(head.bytes_at, out).map_err(corrupt)
    }

    /// Takes the message that [`peek`](Ring::peek) just showed: from here on it is this process's.
    #[inline(always)]
    pub fn commit(&self, cache: &mut ReaderCache, head: &Head) {
        mp_core::step!("ring.read", 1);
        let behind = head.position.wrapping_add(head.total);
        // Its Release: the bytes were copied out before the writer may see them as free.
        raw::commit(self.word(TAKEN), self.heads(), head.taken.wrapping_add(1), behind, || {
            mp_core::step!("ring.read", 2);
        });
        mp_core::step!("ring.read", 3);
        // The space is given back in larger pieces: a writer that reads a line which changes with each message is
        // several times slower.
        let piece = cache.regions.current.as_ref().map_or(0, |region| region.size / 8);
        if behind.wrapping_sub(cache.space) >= piece {
            self.give_space(cache, behind);
        }
    }

    fn give_space(&self, cache: &mut ReaderCache, position: u64) {
        cache.space = position;
        self.word(SPACE).store(position, Release);
    }

    /// Gives back all space that was taken: before the reader sleeps, and for a writer that sleeps.
    pub fn give_all_space(&self, cache: &mut ReaderCache) {
        let (_, head) = raw::own(self.word(TAKEN), self.heads());
        self.give_space(cache, head);
    }

    /// After a reader died: finishes what it may have left half-done. Does nothing when there is nothing to do.
    pub fn mend_reader(&self) {
        self.free_left_regions();
    }

    /// Gives large regions back that the writer has left and that are read out. For an empty ring; see
    /// [`shrink`](Ring::shrink).
    ///
    /// # Errors
    ///
    /// As [`peek`](Ring::peek).
    pub fn release_left_regions(&self, cache: &mut ReaderCache) -> io::Result<()> {
        let taken = self.word(TAKEN).load(Relaxed);
        if self.regions() == 0 || self.word(PUBLISHED).load(Acquire) != taken {
            return Ok(());
        }
        let position = self.head_of(taken).load(Relaxed);
        self.region_of(cache, position)?;
        cache.regions.trim();
        // In the order of the regions: what is returned below would pass for these.
        self.free_left_regions();
        self.give_spare_back();
        self.give_used_bytes_back(cache, position);
        Ok(())
    }

    /// Gives back what of a dedicated region was read, although the writer may still write behind it: a large message's
    /// memory does not wait for the next one.
    fn give_used_bytes_back(&self, cache: &ReaderCache, position: u64) {
        let Some(region) = cache.regions.current.as_ref().filter(|region| !region.is_ring()) else { return };
        let used = position.wrapping_sub(region.start).min(region.size) / WINDOW * WINDOW;
        let extent = Extent { offset: self.entry(region.index).offset, size: used };
        // From here on it is not offered.
        if used > 0 && self.spare().begin_return(region.index, extent) {
            mp_core::step!("ring.spare", 2);
            self.give_extent_back(extent);
            self.spare().done();
        }
    }

    /// How many bytes of the region that is read from are free, as the reader sees it. All or nothing of one that is used once: another region
    /// may follow when one message is left.
    #[must_use]
    pub fn free_bytes(&self, cache: &ReaderCache) -> u64 {
        if cache.regions.current.as_ref().is_some_and(|region| !region.is_ring()) {
            return if self.len() > 1 { 0 } else { cache.region_size() };
        }
        let head = self.head_of(self.word(TAKEN).load(Relaxed)).load(Relaxed);
        let tail = self.tail_of(self.word(PUBLISHED).load(Acquire)).load(Relaxed);
        cache.region_size().saturating_sub(tail.wrapping_sub(head))
    }

    /// Makes the cached region the one in which `position` lies, leaving those that end there.
    fn region_of(&self, cache: &mut ReaderCache, position: u64) -> io::Result<()> {
        let regions = self.regions();
        let current = self.word(REGION).load(Relaxed);
        let known = cache.regions.current.as_ref().is_some_and(|region| region.index == current);
        if known && current.wrapping_add(1) == regions {
            return Ok(());
        }
        self.find_region(cache, position, regions, current)
    }

    #[cold]
    fn find_region(
        &self,
        cache: &mut ReaderCache,
        position: u64,
        regions: u64,
        current: u64,
    ) -> io::Result<()> {
        if current >= regions || regions.wrapping_sub(current) > self.entries() {
            return Err(corrupt(Corrupt("the reader's region does not exist")));
        }
        let mut index = current;
        while index + 1 < regions && self.entry(index + 1).start == position {
            index += 1;
        }
        if index != current {
            self.leave_region(index);
        }
        if cache.regions.current.as_ref().is_none_or(|region| region.index != index) {
            self.go_to_region(&mut cache.regions, index)?;
        }
        Ok(())
    }
}
