//! Packs: the arguments of many items of a map in one buffer, and their results in another.
//!
//! What is plain (one number, or nothing) stands there as its own bytes, one behind the other; all else with its length before it. A job
//! holds a stretch of a pack and can be cut anywhere: what was not started goes elsewhere without a copy.

use crate::error::TaskError;
use crate::job::{Bytes, Item, Raw, Receipt, Sink, Wish};
use mp_core::{EncodeError, Encoding, plain, wire};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// How long a value is, where its type does not say.
const LENGTH: usize = 4;

/// How the values of a pack stand in it.
pub(crate) fn encoding_of<T: 'static>() -> Encoding {
    if plain::width::<T>().is_some() { Encoding::PLAIN } else { Encoding::of::<T>() }
}

/// Where the value at `at` begins and ends in `bytes`; `width` is that of plain ones.
#[inline(always)]
fn value_at(bytes: &[u8], at: usize, width: Option<usize>) -> Option<(usize, usize)> {
    let (start, length) = match width {
        Some(width) => (at, width),
        None => {
            let length = bytes.get(at..at + LENGTH)?.first_chunk()?;
            (at + LENGTH, u32::from_ne_bytes(*length) as usize)
        }
    };
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some((start, end))
}

/// How long one item of a map takes, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In 256ths of a nanosecond; zero while nothing is known.
    each: AtomicU64,
    /// How many jobs were sent.
    sent: AtomicU64,
}

/// A job shall take about so long.
const WANTED: u64 = 500_000;
/// A job that takes less is not made smaller for the sake of the end.
const LEAST: u64 = 20_000;

impl Pace {
    /// `items` have taken so many nanoseconds.
    pub(crate) fn note(&self, items: usize, nanoseconds: u64) {
        let each = (nanoseconds << 8) / (items as u64).max(1);
        let before = self.each.load(Relaxed);
        let after = if before == 0 { each } else { before - before / 4 + each / 4 };
        self.each.store(after.max(1), Relaxed);
    }

    /// How many of `left` items the next job has, in a pool of so many workers: about half a millisecond's, a part of what is left
    /// towards the end, and few while nothing is known.
    pub(crate) fn next(&self, left: usize, workers: usize) -> usize {
        let sent = self.sent.load(Relaxed);
        self.sent.store(sent + 1, Relaxed);
        let share = left / (2 * workers.max(1));
        let wanted = match self.each.load(Relaxed) {
            0 => return share.min(1 << sent.min(6)).max(1),
            each => {
                let items =
                    |nanoseconds: u64| usize::try_from((nanoseconds << 8) / each).unwrap_or(usize::MAX);
                items(WANTED).min(share.max(items(LEAST)))
            }
        };
        wanted.clamp(1, crate::control::MOST_ITEMS as usize)
    }
}

/// The buffer, kept until all of its items are settled.
pub(crate) struct Block {
    encoding: Encoding,
    width: Option<usize>,
    pub(crate) bytes: Vec<u8>,
    /// The function, by its name in the loop that runs packs.
    pub(crate) routine: Arc<[u8]>,
    sink: Arc<dyn Sink>,
    /// The number of the first item in its map.
    first: usize,
    pub(crate) pace: Arc<Pace>,
    /// Whether jobs are cut by pace: not where the user says how long a chunk is.
    pub(crate) paced: bool,
}

/// A stretch of a block: items that wait, or are at a worker. Dropping it cancels them.
pub(crate) struct Pack {
    pub(crate) block: Arc<Block>,
    next: usize,
    left: usize,
    at: usize,
    end: usize,
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pack").field("next", &self.next).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Pack {
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    pub(crate) fn wish(&self) -> Wish {
        self.block.sink.wish()
    }

    /// The encoding of each item, and all their bytes.
    pub(crate) fn content(&self) -> (Encoding, &[u8]) {
        (self.block.encoding, &self.block.bytes[self.at..self.end])
    }

    /// Where `items` items from the first one on end.
    fn behind(&self, items: usize) -> usize {
        match self.block.width {
            Some(width) => self.at + items * width,
            None => (0..items).fold(self.at, |at, _| {
                value_at(&self.block.bytes, at, None).map_or(self.end, |(_, end)| end)
            }),
        }
    }

    /// How many of the first `most` items fit into `bytes` bytes; at least one.
    pub(crate) fn fitting(&self, most: usize, bytes: usize) -> usize {
        let most = most.min(self.left);
        let fits = match self.block.width {
            Some(width) => most.min(bytes / width.max(1)),
            None => {
                let mut at = self.at;
                (0..most)
                    .take_while(|_| {
                        at = value_at(&self.block.bytes, at, None).map_or(self.end, |(_, end)| end);
                        at - self.at <= bytes
                    })
                    .count()
            }
        };
        fits.max(1)
    }

    /// Takes the items from `kept` on away.
    pub(crate) fn split_off(&mut self, kept: usize) -> Pack {
        let kept = kept.min(self.left);
        let cut = if kept == self.left { self.end } else { self.behind(kept) };
        let rest = Pack {
            block: Arc::clone(&self.block),
            next: self.next + kept,
            left: self.left - kept,
            at: cut,
            end: self.end,
        };
        (self.left, self.end) = (kept, cut);
        rest
    }

    /// Takes the first item out, as one of its own.
    pub(crate) fn pop_front(&mut self) -> Option<Item> {
        if self.left == 0 {
            return None;
        }
        let (start, end) = value_at(&self.block.bytes, self.at, self.block.width)?;
        let receipt = Receipt::new(Arc::clone(&self.block.sink), self.block.first + self.next);
        let bytes = Bytes::Part(Arc::clone(&self.block), start..end);
        (self.next, self.left, self.at) = (self.next + 1, self.left - 1, end);
        Some(Item::again(self.block.encoding, bytes, receipt))
    }

    /// The first items have these results.
    pub(crate) fn settle(&mut self, results: Packed) {
        let first = self.block.first + self.next;
        self.at = self.behind(results.count);
        self.next += results.count;
        self.left -= results.count;
        self.block.sink.settle_many(first, results);
    }

    /// The first items get the error.
    pub(crate) fn fail(&mut self, items: usize, error: impl Fn() -> TaskError) {
        let items = items.min(self.left);
        self.at = if items == self.left { self.end } else { self.behind(items) };
        for _ in 0..items {
            // Counted first: the sink may be anything.
            self.left -= 1;
            self.next += 1;
            self.block.sink.settle(self.block.first + self.next - 1, Err(error()));
        }
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.fail(self.left, || TaskError::Cancelled);
    }
}

/// Gathers the arguments of items into blocks.
pub(crate) struct Packer {
    encoding: Encoding,
    width: Option<usize>,
    bytes: Vec<u8>,
    first: usize,
    count: usize,
    pace: Arc<Pace>,
    paced: bool,
    routine: Arc<[u8]>,
}

/// Why an item is in no pack.
pub(crate) enum Unpackable {
    /// It holds handles.
    Handles,
    Encode(EncodeError),
}

impl Packer {
    pub(crate) fn new<Args: 'static>(routine: Arc<[u8]>, paced: bool) -> Packer {
        Packer {
            encoding: encoding_of::<Args>(),
            width: plain::width::<Args>(),
            bytes: Vec::new(),
            first: 0,
            count: 0,
            pace: Arc::default(),
            paced,
            routine,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds item `index`, which comes behind the last one.
    #[inline(always)]
    pub(crate) fn push<Args: Serialize + 'static>(
        &mut self,
        index: usize,
        args: &Args,
    ) -> Result<(), Unpackable> {
        if self.count == 0 {
            self.first = index;
        }
        if !plain::append(args, &mut self.bytes) {
            append_with_length(args, &mut self.bytes)?;
        }
        self.count += 1;
        Ok(())
    }

    /// What was gathered, if anything; the next item begins another block.
    pub(crate) fn take(&mut self, sink: Arc<dyn Sink>) -> Option<Pack> {
        let (left, end) = (std::mem::take(&mut self.count), self.bytes.len());
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(end));
        let block = Block {
            encoding: self.encoding,
            width: self.width,
            bytes,
            routine: Arc::clone(&self.routine),
            sink,
            first: self.first,
            pace: Arc::clone(&self.pace),
            paced: self.paced,
        };
        (left > 0).then(|| Pack { block: Arc::new(block), next: 0, left, at: 0, end })
    }
}

/// Appends `value` behind its length; nothing where that cannot be.
fn append_with_length<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), Unpackable> {
    let start = out.len();
    out.extend([0; LENGTH]);
    let appended = wire::append(value, out);
    let length = u32::try_from(out.len() - start - LENGTH);
    match (appended, length) {
        (Ok(handles), Ok(length)) if handles.is_empty() => {
            out[start..start + LENGTH].copy_from_slice(&length.to_ne_bytes());
            Ok(())
        }
        (Err(error), _) => {
            out.truncate(start);
            Err(Unpackable::Encode(error))
        }
        // Too long for a pack is for whoever sends it alone.
        _ => {
            out.truncate(start);
            Err(Unpackable::Handles)
        }
    }
}

/// Appends a result to a pack of results; false when it must go alone.
#[inline(always)]
pub(crate) fn append_result<R: Serialize + 'static>(value: &R, out: &mut Vec<u8>) -> bool {
    plain::append(value, out) || append_with_length(value, out).is_ok()
}

/// The values of a pack one by one, as they lie in its bytes.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
    width: Option<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(bytes: &'a [u8], width: Option<usize>) -> Values<'a> {
        Values { bytes, at: 0, width }
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let (start, end) = value_at(self.bytes, self.at, self.width)?;
        self.at = end;
        Some(&self.bytes[start..end])
    }
}

/// Results of items that follow each other, as they came from a worker.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) encoding: Encoding,
    pub(crate) count: usize,
    bytes: Vec<u8>,
    /// Where they begin.
    start: usize,
}

impl Packed {
    /// `None` when the bytes are not so many results.
    pub(crate) fn new(encoding: Encoding, count: usize, bytes: Vec<u8>, start: usize) -> Option<Packed> {
        let packed = Packed { encoding, count, bytes, start };
        let length = packed.bytes.len().checked_sub(start)?;
        let whole = match packed.width() {
            Some(width) => length == width * count,
            None => {
                let mut values = packed.values();
                (0..count).all(|_| values.next().is_some()) && values.at == length
            }
        };
        (count > 0 && whole).then_some(packed)
    }

    fn width(&self) -> Option<usize> {
        (self.encoding == Encoding::PLAIN).then(|| (self.bytes.len() - self.start) / self.count.max(1))
    }

    pub(crate) fn values(&self) -> Values<'_> {
        Values::new(&self.bytes[self.start..], self.width())
    }

    /// Each result alone.
    pub(crate) fn raws(&self) -> impl Iterator<Item = Raw> {
        let mut values = self.values();
        (0..self.count).map_while(move |_| {
            let bytes = values.next()?.to_vec();
            Some(Raw { encoding: self.encoding, bytes, handles: Vec::new() })
        })
    }

    /// Decodes all of them, in order.
    pub(crate) fn decode<R: DeserializeOwned + 'static>(
        &self,
        mut take: impl FnMut(Result<R, TaskError>) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        let mut values = self.values();
        for _ in 0..self.count {
            let bytes = values.next().unwrap_or_default();
            let value = match plain::read::<R>(bytes).filter(|_| self.encoding == Encoding::PLAIN) {
                Some(value) => Ok(value),
                None => wire::decode(self.encoding, Cow::Borrowed(bytes), Vec::new())
                    .map_err(TaskError::Undecodable),
            };
            take(value)?;
        }
        Ok(())
    }
}

/// What came in for one item, or for several that follow each other.
#[derive(Debug)]
pub(crate) enum Piece {
    One(Result<Raw, TaskError>),
    Many(Packed),
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Piece::One(_) => 1,
            Piece::Many(packed) => packed.count,
        }
    }

    /// Decodes what it holds, in order.
    pub(crate) fn decode<R: DeserializeOwned + 'static>(
        self,
        mut take: impl FnMut(Result<R, TaskError>) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        match self {
            Piece::One(result) => take(crate::async_result::decode(result)),
            Piece::Many(packed) => packed.decode(take),
        }
    }
}

/// Pieces by the number of their first item.
pub(crate) type Pieces = BTreeMap<usize, Piece>;
