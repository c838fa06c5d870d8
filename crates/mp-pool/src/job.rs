//! A job: what is sent to a worker as one, and where each of its items reports.

use crate::control;
use crate::error::TaskError;
use crate::map::HEAVIEST;
use crate::pack::{Block, Pace, Pack, Packed};
use crate::room::Room;
use crate::terms::Terms;
use crate::worker::Packs;
use mp_core::handle::Handles;
use mp_core::wire::Message;
use mp_core::{EncodeError, Encoding, wire};
use mp_process::Task;
use mp_process::routine::{DrivenRoutine, Routine};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::TypeId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use std::{fmt, io};

/// A result as it came from the worker; decoded where it is awaited, so that users' code cannot hurt the pool's owner.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<OwnedFd>,
}

/// Whether a task's result is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Wanted,
    /// Nobody waits for it any more: it need not start.
    Unwanted,
    /// It shall not start, and shall stop if it runs.
    Cancelled,
}

/// A [`Wish`] that others change.
#[derive(Debug, Default)]
pub(crate) struct AtomicWish(AtomicU8);

impl AtomicWish {
    /// Only lowers what is wished for.
    pub(crate) fn lower(&self, wish: Wish) {
        self.0.fetch_max(wish as u8, Relaxed);
    }

    pub(crate) fn get(&self) -> Wish {
        match self.0.load(Relaxed) {
            0 => Wish::Wanted,
            1 => Wish::Unwanted,
            _ => Wish::Cancelled,
        }
    }
}

/// Takes the results of items, each once. Must not block, must not run users' code, must not panic.
pub(crate) trait Sink: Send + Sync {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>);

    /// Results of items that follow each other, from `first` on.
    fn settle_many(&self, first: usize, results: Packed) {
        for (index, raw) in (first..).zip(results.raws()) {
            self.settle(index, Ok(raw));
        }
    }

    fn wish(&self) -> Wish {
        Wish::Wanted
    }
}

/// The duty to settle one item: done by [`settle`](Receipt::settle), or, whatever happens, when it is dropped. So every item
/// is settled exactly once.
pub(crate) struct Receipt {
    sink: Option<Arc<dyn Sink>>,
    index: usize,
    /// Its room in a queue of limited length: given back when it is settled.
    pub(crate) room: Option<Room>,
}

impl Receipt {
    pub(crate) fn new(sink: Arc<dyn Sink>, index: usize) -> Receipt {
        Receipt { sink: Some(sink), index, room: None }
    }

    pub(crate) fn settle(mut self, result: Result<Raw, TaskError>) {
        self.room = None;
        if let Some(sink) = self.sink.take() {
            sink.settle(self.index, result);
        }
    }

    pub(crate) fn wish(&self) -> Wish {
        self.sink.as_ref().map_or(Wish::Unwanted, |sink| sink.wish())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.room = None;
        if let Some(sink) = self.sink.take() {
            sink.settle(self.index, Err(TaskError::Cancelled));
        }
    }
}

/// Arguments and results of so many bytes are worth an allocation of their own, rather than a copy.
pub(crate) const LARGE: usize = 16 << 10;

/// The bytes of an item's arguments.
pub(crate) enum Bytes {
    Own(wire::Owned),
    /// In a pack, as one of many.
    Part(Arc<Block>, Range<usize>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Own(bytes) => bytes,
            Bytes::Part(block, range) => &block.bytes[range.clone()],
        }
    }
}

/// Encoded arguments, and where the result goes. Kept by the pool until it is settled.
pub(crate) struct Item {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
    pub(crate) handles: Vec<Arc<OwnedFd>>,
    /// Ends that move with the arguments: they are here until the item is sent for the first time.
    departing: Option<Handles>,
    pub(crate) receipt: Receipt,
    /// How earlier attempts ended.
    pub(crate) attempts: Vec<TaskError>,
}

impl Item {
    /// Takes the bytes of `args` or encodes them; gives the receipt back with the error.
    pub(crate) fn new<T: Serialize + 'static>(
        args: T,
        receipt: Receipt,
    ) -> Result<Item, (EncodeError, Receipt)> {
        match wire::into_own(args) {
            Ok((encoding, bytes)) => Ok(Item::again(encoding, Bytes::Own(bytes), receipt)),
            Err(args) => Item::of(&args, receipt),
        }
    }

    /// Encodes `args`, which stay the caller's; gives the receipt back with the error.
    pub(crate) fn of<T: Serialize + 'static>(
        args: &T,
        receipt: Receipt,
    ) -> Result<Item, (EncodeError, Receipt)> {
        let mut scratch = Vec::new();
        let Message { encoding, bytes, handles } = match wire::encode(args, &mut scratch) {
            Ok(message) => message,
            Err(error) => return Err((error, receipt)),
        };
        // Other encodings leave the bytes in the value.
        let own = (encoding != Encoding::POSTCARD).then(|| bytes.to_vec());
        let filled = bytes.len();
        let shared = handles.shared();
        let departing = (!handles.is_empty()).then_some(handles);
        let bytes = own.unwrap_or_else(|| {
            scratch.truncate(filled);
            scratch
        });
        let bytes = Bytes::Own(bytes.into());
        Ok(Item { encoding, bytes, handles: shared, departing, receipt, attempts: Vec::new() })
    }

    /// One without handles, or one that was in a pack.
    pub(crate) fn again(encoding: Encoding, bytes: Bytes, receipt: Receipt) -> Item {
        Item { encoding, bytes, handles: Vec::new(), departing: None, receipt, attempts: Vec::new() }
    }

    /// It is at a worker: ends in its arguments have left this process.
    pub(crate) fn sent(&mut self) {
        if let Some(departing) = self.departing.take() {
            departing.sent();
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// A function, as a job names it: encoded once, and by its name for people.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) routine: Arc<[u8]>,
    pub(crate) name: &'static str,
}

impl Function {
    /// `None` when it lies in no loaded image.
    pub(crate) fn of<F, Args>(function: F) -> Option<Function>
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static,
    {
        thread_local! {
            /// The last one: most tasks are of the same function as those before.
            static LAST: RefCell<Option<(TypeId, Arc<[u8]>)>> = const { RefCell::new(None) };
        }
        let id = TypeId::of::<(F, Args)>();
        let name = std::any::type_name::<F>();
        let known =
            LAST.with_borrow(|last| last.as_ref().filter(|(last, _)| *last == id).map(|last| last.1.clone()));
        if let Some(routine) = known {
            return Some(Function { routine, name });
        }
        let mut scratch = Vec::new();
        let routine = Routine::of::<F, Args>(function)?;
        let routine: Arc<[u8]> = wire::encode(&routine, &mut scratch).ok()?.bytes.into();
        LAST.set(Some((id, Arc::clone(&routine))));
        Some(Function { routine, name })
    }

    /// As [`of`](Function::of), and the function's name in the loop that runs packs.
    pub(crate) fn of_packs<F, Args>(function: F) -> Option<(Function, Arc<[u8]>)>
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static,
    {
        let mut scratch = Vec::new();
        let routine = DrivenRoutine::<Packs>::of::<F, Args>(function)?;
        let packs: Arc<[u8]> = wire::encode(&routine, &mut scratch).ok()?.bytes.into();
        Some((Function::of::<F, Args>(function)?, packs))
    }

    #[cfg(test)]
    pub(crate) fn nameless() -> Function {
        Function { routine: Arc::from([]), name: "f" }
    }
}

/// The items of a job, in the order in which they run.
#[derive(Debug)]
pub(crate) enum Items {
    Each(VecDeque<Item>),
    Packed(Box<Pack>),
}

impl From<VecDeque<Item>> for Items {
    fn from(items: VecDeque<Item>) -> Items {
        Items::Each(items)
    }
}

impl From<[Item; 1]> for Items {
    fn from(items: [Item; 1]) -> Items {
        Items::Each(items.into())
    }
}

impl Items {
    pub(crate) fn len(&self) -> usize {
        match self {
            Items::Each(items) => items.len(),
            Items::Packed(pack) => pack.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn pop_front(&mut self) -> Option<Item> {
        match self {
            Items::Each(items) => items.pop_front(),
            Items::Packed(pack) => pack.pop_front(),
        }
    }

    fn split_off(&mut self, kept: usize) -> Items {
        match self {
            Items::Each(items) => Items::Each(items.split_off(kept.min(items.len()))),
            Items::Packed(pack) => Items::Packed(Box::new(pack.split_off(kept))),
        }
    }

    /// Those that stand alone.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut Item> {
        match self {
            Items::Each(items) => Some(items.iter_mut()),
            Items::Packed(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// The descriptors that go along.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Items::Each(items) => items.iter().flat_map(|item| &item.handles).map(AsFd::as_fd).collect(),
            Items::Packed(_) => Vec::new(),
        }
    }
}

/// Items for one function, run by one worker in order.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) function: Function,
    pub(crate) terms: Arc<Terms>,
    /// When it was submitted, in nanoseconds of the monotonic clock.
    pub(crate) born: u64,
    /// Until when it must have started.
    pub(crate) start_by: Option<Instant>,
    /// How often a worker did not begin with it.
    pub(crate) stalled: u8,
    /// In the order in which they run.
    pub(crate) items: Items,
}

impl Job {
    pub(crate) fn new(function: Function, terms: Arc<Terms>, items: impl Into<Items>) -> Job {
        let start_by = terms.start_by();
        let items = items.into();
        Job { function, terms, born: control::now(), start_by, stalled: 0, items }
    }

    /// All items of a job come from one call, so what holds for the first holds for all.
    pub(crate) fn wish(&self) -> Wish {
        match &self.items {
            Items::Each(items) => items.front().map_or(Wish::Unwanted, |item| item.receipt.wish()),
            Items::Packed(pack) => pack.wish(),
        }
    }

    /// Why it must not start any more, if so.
    pub(crate) fn expired(&self, now: Instant) -> Option<TaskError> {
        if self.terms.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(TaskError::DeadlinePassed);
        }
        self.start_by.filter(|until| *until <= now).map(|_| TaskError::QueueTimedOut)
    }

    /// How long its items take, where it is to be cut by that.
    pub(crate) fn pace(&self) -> Option<&Pace> {
        match &self.items {
            Items::Packed(pack) if pack.block.paced => Some(&pack.block.pace),
            _ => None,
        }
    }

    /// Takes away what is too much for one worker at once, with so many items behind it in the queue.
    pub(crate) fn cut(&mut self, behind: usize, workers: usize) -> Option<Job> {
        let Items::Packed(pack) = &self.items else { return None };
        let wanted = self.pace().map_or(usize::MAX, |pace| pace.next(self.items.len() + behind, workers));
        let kept = if wanted < self.items.len() || pack.content().1.len() > HEAVIEST {
            pack.fitting(wanted, HEAVIEST)
        } else {
            return None;
        };
        self.split_off(kept)
    }

    /// Takes the items from `kept` on away, as a job of their own.
    pub(crate) fn split_off(&mut self, kept: usize) -> Option<Job> {
        let items = self.items.split_off(kept);
        (!items.is_empty()).then(|| self.with(items))
    }

    /// Other items on the same terms.
    pub(crate) fn with(&self, items: impl Into<Items>) -> Job {
        let items = items.into();
        let (function, terms) = (self.function.clone(), Arc::clone(&self.terms));
        let (born, start_by, stalled) = (self.born, self.start_by, self.stalled);
        Job { function, terms, born, start_by, stalled, items }
    }

    /// Every item gets an error.
    pub(crate) fn fail(mut self, error: impl Fn() -> TaskError) {
        while let Some(item) = self.items.pop_front() {
            item.receipt.settle(Err(error()));
        }
    }

    /// The first item gets the error itself, the others what it says.
    pub(crate) fn fail_with(mut self, error: TaskError) {
        let text = error.to_string();
        let mut error = Some(error);
        while let Some(item) = self.items.pop_front() {
            let error = error.take().unwrap_or_else(|| TaskError::Io(io::Error::other(text.clone())));
            item.receipt.settle(Err(error));
        }
    }

    /// Its only item, if that has large arguments: they stand first in the record, and go there from where they lie.
    fn lone(&self) -> Option<&Item> {
        match &self.items {
            Items::Each(items) if items.len() == 1 => items.front().filter(|item| item.bytes.len() >= LARGE),
            _ => None,
        }
    }

    /// The record, with what [`encode`](Job::encode) gave.
    pub(crate) fn parts<'a>(&'a self, encoded: &'a [u8]) -> [&'a [u8]; 2] {
        match &self.items {
            Items::Packed(pack) => [encoded, pack.content().1],
            Items::Each(_) => self.lone().map_or([encoded, &[]], |item| [&item.bytes, encoded]),
        }
    }

    /// What kind of record it is.
    pub(crate) fn kind(&self) -> u8 {
        match self.items {
            Items::Each(_) if self.lone().is_some() => kind::LONE,
            Items::Each(_) => kind::JOB,
            Items::Packed(_) => kind::PACK,
        }
    }

    /// The record's bytes: where it stands in the worker's control block, the function, and the arguments of each item. Those of a
    /// [lone](Job::lone) one stand before, and the length of this behind; those of a pack follow from where they lie.
    pub(crate) fn encode(&self, entry: usize, generation: u16, out: &mut Vec<u8>) -> Result<(), TaskError> {
        out.clear();
        let (routine, attempts) = match &self.items {
            Items::Each(items) => {
                (&*self.function.routine, items.front().map_or(0, |item| item.attempts.len()))
            }
            Items::Packed(pack) => (&*pack.block.routine, 0),
        };
        out.extend([entry.to_le_bytes()[0], u8::try_from(attempts).unwrap_or(u8::MAX)]); // entries are below 64
        out.extend(generation.to_ne_bytes());
        out.extend(length(self.items.len())?);
        out.extend(length(routine.len())?);
        out.extend_from_slice(routine);
        if let Some(item) = self.lone() {
            out.extend(item_head(item, 0)?);
            out.extend(length(out.len())?);
            // As the record's length is checked when it is written.
            return length(item.bytes.len()).map(drop);
        }
        match &self.items {
            Items::Each(items) => {
                for item in items {
                    out.extend(item_head(item, item.bytes.len())?);
                    out.extend_from_slice(&item.bytes);
                }
            }
            Items::Packed(pack) => out.push(pack.content().0.0),
        }
        Ok(())
    }
}

/// What stands before the arguments of an item.
fn item_head(item: &Item, bytes: usize) -> Result<[u8; 8], TaskError> {
    let [h0, h1] = u16::try_from(item.handles.len()).map_err(|_| too_long())?.to_ne_bytes();
    let [l0, l1, l2, l3] = length(bytes)?;
    Ok([item.encoding.0, 0, h0, h1, l0, l1, l2, l3])
}

/// Cuts what stands behind the arguments of a [lone](Job::lone) item off them; `None` for bytes that are no such record.
pub(crate) fn cut_tail(record: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (rest, length) = record.split_last_chunk()?;
    let at = rest.len().checked_sub(u32::from_ne_bytes(*length) as usize)?;
    Some(record.split_off(at))
}

fn length(length: usize) -> Result<[u8; 4], TaskError> {
    u32::try_from(length).map(u32::to_ne_bytes).map_err(|_| too_long())
}

fn too_long() -> TaskError {
    TaskError::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        "arguments of 4 GiB or more; share memory instead",
    ))
}

/// A job as the worker reads it.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) entry: u8,
    /// How often it was tried before.
    pub(crate) attempt: u8,
    pub(crate) generation: u16,
    pub(crate) count: u32,
    pub(crate) routine: &'a [u8],
    rest: &'a [u8],
}

/// One item's arguments.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) handles: u16,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Received<'a> {
    /// `None` for bytes that are no job: then the line is broken.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Received<'a>> {
        let ([entry, attempt, g0, g1], rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (routine, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        let generation = u16::from_ne_bytes([*g0, *g1]);
        let (entry, attempt) = (*entry, *attempt);
        Some(Received { entry, attempt, generation, count: u32::from_ne_bytes(*count), routine, rest })
    }

    /// The items of a pack: how each is encoded, and their bytes.
    pub(crate) fn pack(&self) -> Option<(Encoding, &'a [u8])> {
        self.rest.split_first().map(|(encoding, bytes)| (Encoding(*encoding), bytes))
    }

    /// The next item's arguments.
    pub(crate) fn next_args(&mut self) -> Option<Args<'a>> {
        let ([encoding, _, h0, h1], rest) = self.rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        self.rest = rest;
        Some(Args { encoding: Encoding(*encoding), handles: u16::from_ne_bytes([*h0, *h1]), bytes })
    }
}

/// How an item ended, in a record's kind; a [head](crate::worker::Head) stands behind its bytes.
pub(crate) mod kind {
    pub(crate) const JOB: u8 = 1;
    pub(crate) const RETURNED: u8 = 2;
    pub(crate) const PANICKED: u8 = 3;
    pub(crate) const ARGUMENTS: u8 = 4;
    pub(crate) const UNENCODABLE: u8 = 5;
    pub(crate) const UNKNOWN: u8 = 6;
    /// The worker is ready: the initializer has run.
    pub(crate) const READY: u8 = 7;
    /// The initializer failed; the bytes are a text without a head.
    pub(crate) const BROKEN: u8 = 8;
    /// A job whose items are in a pack.
    pub(crate) const PACK: u8 = 9;
    /// What several items of a pack returned.
    pub(crate) const PACKED: u8 = 10;
    /// A job of one item, whose arguments stand before it.
    pub(crate) const LONE: u8 = 11;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_jobs_are_refused() {
        let mut bytes = vec![3, 0, 7, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 9, 1, 0, 0, 0, 1, 0, 0, 0, 5];
        let mut job = Received::parse(&bytes).unwrap();
        assert_eq!((job.entry, job.generation, job.count, job.routine), (3, 7, 1, [9, 9].as_slice()));
        assert_eq!(job.next_args().unwrap().bytes, [5]);
        assert!(job.next_args().is_none());
        bytes.pop();
        assert!(Received::parse(&bytes).unwrap().next_args().is_none());
        assert!(Received::parse(&bytes[..10]).is_none());
    }
}
