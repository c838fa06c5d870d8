//! The writing side.

use super::layout::*;
use super::raw;
use super::region::{Region, Regions, corrupt};
use super::{Corrupt, HeaderWord, Ring};
use mp_core::Encoding;
use mp_shm::WINDOW;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// What is written: the parts of an encoded message.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// How the bytes are to be read.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: &'a [u8],
    /// How many handles travel beside them.
    pub handles: u16,
}

/// Why a record was not written.
#[derive(Debug)]
pub enum WriteError {
    /// There is no room now. Nothing has changed.
    Full,
    /// It is longer than any record can be.
    TooLong,
    /// There is no memory for it, or the shared memory is corrupt (`InvalidData`).
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

/// What this process remembers of the writing side; a fresh one is always right, only slower.
#[derive(Debug, Default)]
pub struct WriterCache {
    regions: Regions,
    /// Everything before this position was taken when last looked.
    space: u64,
    /// How many messages were taken when last looked.
    taken: u64,
    /// How many small messages in a row went into a large region.
    calm: u32,
}

/// After so many small messages in a row, a ring that had grown for large ones, or many, goes back to a small region.
const CALM: u32 = 256;
const CALM_AGAIN: u32 = 8;

impl Ring {
    /// Appends `record`, if there is room and at most `bound` messages are inside afterwards.
    ///
    /// `send_handles` is called with the sequence number under which the record's handles must be sent, before the record
    /// can be seen; when it fails nothing is written, and that number is never used again.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]; nothing was written then.
    pub fn write(
        &self,
        cache: &mut WriterCache,
        growth: Growth,
        bound: u64,
        record: Record<'_>,
        send_handles: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        self.write_parts(cache, growth, bound, record, &[], send_handles)
    }

    /// As [`write`](Ring::write), with `behind` as the end of the record's bytes: so large ones need not be copied together before.
    ///
    /// # Errors
    ///
    /// As [`write`](Ring::write).
    pub fn write_parts(
        &self,
        cache: &mut WriterCache,
        growth: Growth,
        bound: u64,
        record: Record<'_>,
        behind: &[u8],
        send_handles: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let length =
            record.bytes.len().checked_add(behind.len()).and_then(|length| u32::try_from(length).ok());
        let length = length.ok_or(WriteError::TooLong)?;
        let header = HeaderWord { length, encoding: record.encoding, handles: record.handles };
        let published = self.word(PUBLISHED).load(Relaxed);
        if published.wrapping_sub(cache.taken) >= bound {
            cache.taken = self.taken();
            if published.wrapping_sub(cache.taken) >= bound {
                return Err(WriteError::Full);
            }
        }
        let tail = self.tail_of(published).load(Relaxed);
        let total = header.total();
        let region = self.region_with_room(cache, growth, published, tail, total)?;
        mp_core::step!("ring.write", 1);
        let mut sequence = None;
        if record.handles > 0 {
            let next = self.word(HANDLES).load(Relaxed).wrapping_add(1);
            self.word(HANDLES).store(next, Relaxed);
            send_handles(next)?;
            sequence = Some(next);
        }
        self.fill(region, tail, header, sequence, [record.bytes, behind]).map_err(corrupt)?;
        self.publish(published, tail.wrapping_add(total));
        Ok(())
    }

    /// The way of most records: without handles, small, into a ring in which there is room for all that is known. False, and
    /// nothing has changed, when any of that is not so: [`write`](Ring::write) then does it.
    #[inline(always)]
    pub fn write_plain(&self, cache: &mut WriterCache, bound: u64, encoding: Encoding, bytes: &[u8]) -> bool {
        let Some(region) = &cache.regions.current else { return false };
        if bytes.len() > super::PLAIN_MOST {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than a small region, as just checked")]
        let header = HeaderWord { length: bytes.len() as u32, encoding, handles: 0 };
        let published = self.word(PUBLISHED).load(Relaxed);
        if bound != u64::MAX && published.wrapping_sub(cache.taken) >= bound {
            return false;
        }
        let tail = self.tail_of(published).load(Relaxed);
        let total = header.total();
        let current = region.is_ring() && region.index.wrapping_add(1) == self.regions();
        if !current || region.room(tail, cache.space) < total {
            return false;
        }
        // Around the end of the ring goes the long way.
        let Some(place) = region.in_one_piece(tail, total) else { return false };
        if region.size > KEPT_REGION {
            // Now and then the long way, which goes back to a small ring.
            cache.calm = cache.calm.saturating_add(1);
            if cache.calm >= CALM {
                return false;
            }
        }
        mp_core::step!("ring.write", 1);
        region.map().atomic_u64(place).store(header.pack(), Relaxed);
        region.map().copy_in(place + 8, bytes);
        mp_core::step!("ring.write", 2);
        region.will_write_ahead(tail, total);
        self.publish(published, tail.wrapping_add(total));
        true
    }

    /// Writes a record's bytes behind the tail, where nobody looks yet.
    #[inline(always)]
    fn fill(
        &self,
        region: &Region,
        tail: u64,
        header: HeaderWord,
        sequence: Option<u64>,
        parts: [&[u8]; 2],
    ) -> Result<(), Corrupt> {
        region.word(tail)?.store(header.pack(), Relaxed);
        let mut at = tail.wrapping_add(8);
        if let Some(sequence) = sequence {
            region.word(at)?.store(sequence, Relaxed);
            at = at.wrapping_add(8);
        }
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            region.write(at, part);
            at = at.wrapping_add(part.len() as u64);
        }
        mp_core::step!("ring.write", 2);
        Ok(())
    }

    /// Commits: message `published + 1` ends at `end`.
    #[inline(always)]
    fn publish(&self, published: u64, end: u64) {
        raw::commit(self.word(PUBLISHED), self.tails(), published.wrapping_add(1), end, || {
            mp_core::step!("ring.write", 3);
        });
        mp_core::step!("ring.write", 4);
    }

    /// The region to write `total` bytes to at `tail`, where they fit.
    fn region_with_room<'c>(
        &self,
        cache: &'c mut WriterCache,
        growth: Growth,
        published: u64,
        tail: u64,
        total: u64,
    ) -> Result<&'c Region, WriteError> {
        self.current_region(cache, tail)?;
        let size = cache.regions.current.as_ref().map_or(0, |region| region.size);
        let wanted = wanted_size(total);
        if wanted > size {
            // Large for this region: a larger one, at once or when what is inside has gone.
            if growth == Growth::WhenEmpty && published != self.taken() {
                return Err(WriteError::Full);
            }
            self.move_on(cache, wanted, tail)?;
        } else if size > KEPT_REGION && wanted < size && self.calmed_down(cache, published) {
            self.move_on(cache, wanted, tail)?;
        } else if !self.has_room(cache, tail, total) {
            if !cache.regions.current.as_ref().is_some_and(Region::is_ring) {
                // A dedicated region is used up by its one message. While that is read out the next one may be written.
                if growth == Growth::WhenEmpty && published.wrapping_sub(self.taken()) > 1 {
                    return Err(WriteError::Full);
                }
                self.move_on(cache, wanted.max(SMALL_REGION), tail)?;
            } else if growth == Growth::WhenEmpty {
                return Err(WriteError::Full);
            } else {
                self.move_on(cache, (size * 2).min(LARGE_REGION).max(wanted), tail)?;
            }
        }
        cache.regions.current.as_ref().ok_or(WriteError::Full)
    }

    /// Whether `total` bytes fit behind `tail`, looking closer the less is known to be free.
    #[inline]
    fn has_room(&self, cache: &mut WriterCache, tail: u64, total: u64) -> bool {
        let Some(region) = &cache.regions.current else { return false };
        if region.room(tail, cache.space) >= total {
            return true;
        }
        // Acquire: the reader's copies out of that space are over.
        cache.space = self.word(SPACE).load(Acquire);
        if region.room(tail, cache.space) >= total {
            return true;
        }
        cache.space = self.really_taken();
        region.room(tail, cache.space) >= total
    }

    /// Up to which position the reader has given space back: for one who spins until that changes.
    #[must_use]
    pub fn given_back(&self) -> u64 {
        self.word(SPACE).load(Relaxed)
    }

    /// The position behind what was really taken, read from the other side's words.
    fn really_taken(&self) -> u64 {
        raw::others(self.word(TAKEN), self.heads())
    }

    /// Maps the region that is written to, unless it is the one in the cache.
    fn current_region(&self, cache: &mut WriterCache, tail: u64) -> Result<(), WriteError> {
        let regions = self.regions();
        let Some(last) = regions.checked_sub(1) else {
            return self.move_on(cache, SMALL_REGION, tail);
        };
        if cache.regions.current.as_ref().is_none_or(|region| region.index != last) {
            self.go_to_region(&mut cache.regions, last)?;
            cache.space = self.really_taken();
        }
        Ok(())
    }

    fn move_on(&self, cache: &mut WriterCache, size: u64, tail: u64) -> Result<(), WriteError> {
        match self.add_region(size, tail)? {
            Some(index) => {
                self.go_to_region(&mut cache.regions, index)?;
                cache.calm = 0;
                Ok(())
            }
            None => Err(WriteError::Full),
        }
    }

    /// Whether a ring that had grown has seen only small messages for long, and is empty; when not empty, looked at again a few messages later.
    fn calmed_down(&self, cache: &mut WriterCache, published: u64) -> bool {
        cache.calm = cache.calm.saturating_add(1);
        if cache.calm < CALM {
            return false;
        }
        cache.calm = CALM - CALM_AGAIN;
        published == self.taken()
    }

    /// Leaves a region that is much larger than needed, so that its memory goes back once the reader looks again. Called by
    /// whoever may write, when the ring is empty.
    ///
    /// # Errors
    ///
    /// When there is no memory for a small region.
    pub fn shrink(&self, cache: &mut WriterCache) -> Result<(), WriteError> {
        let (published, tail) = raw::own(self.word(PUBLISHED), self.tails());
        if published != self.taken() {
            return Ok(());
        }
        self.move_on(cache, SMALL_REGION, tail)
    }
}

/// The size of region in which a record of `total` bytes is at home: a ring of which it is a small part, or a dedicated one.
fn wanted_size(total: u64) -> u64 {
    if total <= SMALL_REGION / PART {
        return SMALL_REGION;
    }
    let ring = (total * PART).next_power_of_two();
    if ring <= LARGE_REGION {
        return ring;
    }
    let dedicated = total.next_multiple_of(WINDOW);
    // A power of two would be taken for a ring.
    if dedicated.is_power_of_two() { dedicated + WINDOW } else { dedicated }
}
