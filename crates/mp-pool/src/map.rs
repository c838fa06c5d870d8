//! Many tasks of one function: `map` and its kin.

use crate::async_result::decode;
use crate::error::TaskError;
use crate::job::{Item, Job, Raw, Receipt, Sink, Unwanted};
use crate::pool::{Options, Pool};
use mp_process::{Task, routine::Routine};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

/// So many chunks for each worker, so that the last ones end at about the same time.
const CHUNKS: usize = 4;
/// The longest chunk: it is what one worker holds, though what has not started can be taken back.
const LONGEST: usize = 4096;
/// The most bytes of arguments in a chunk of several items.
const HEAVIEST: usize = 64 << 10;
/// The most handles in a chunk of several items: the kernel keeps only so many in flight.
const MOST_HANDLES: usize = 64;
/// So many items for each worker are on their way in a lazy stream.
const WINDOW: usize = 4;

type Numbered = (usize, Result<Raw, TaskError>);

/// What came in before its turn.
type Early = BTreeMap<usize, Result<Raw, TaskError>>;

/// Results of many items as they come in. What has not started when it is dropped is cancelled.
struct Results<'a> {
    pool: &'a Pool,
    unwanted: Unwanted,
    receiver: Receiver<Numbered>,
    /// How many have not come in.
    missing: usize,
}

impl Results<'_> {
    fn next(&mut self) -> Option<Numbered> {
        if self.missing == 0 {
            return None;
        }
        // Every item settles exactly once, so all senders are gone only after all results came in.
        let next = self.receiver.recv().ok();
        self.missing = if next.is_some() { self.missing - 1 } else { 0 };
        next
    }
}

impl Drop for Results<'_> {
    fn drop(&mut self) {
        if self.missing > 0 {
            self.pool.forget(&self.unwanted);
        }
    }
}

/// Sends an item's result with its number.
struct ToStream(usize, Sender<Numbered>);

impl Sink for ToStream {
    fn settle(self: Box<Self>, result: Result<Raw, TaskError>) {
        // Nobody there: the stream was dropped, and the result is not wanted.
        let _ = self.1.send((self.0, result));
    }
}

impl Pool {
    /// Calls `function` with each of `items`, in chunks; gives what it returned, in order.
    ///
    /// # Errors
    ///
    /// The first error that comes in. Items that have not started by then are cancelled, those that run run on; see
    /// [`try_map`](Pool::try_map).
    pub fn map<F, T>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.starmap(function, items.into_iter().map(|item| (item,)))
    }

    /// As [`map`](Pool::map), with a result of its own for each item.
    pub fn try_map<F, T>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Vec<Result<F::Output, TaskError>>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let mut results = self.send_all(function, items.into_iter().map(|item| (item,)));
        let mut found: Vec<Option<Result<F::Output, TaskError>>> =
            (0..results.missing).map(|_| None).collect();
        while let Some((index, result)) = results.next() {
            found[index] = Some(decode(result));
        }
        found.into_iter().map(|result| result.unwrap_or(Err(TaskError::Cancelled))).collect()
    }

    /// As [`map`](Pool::map), where each item is the whole tuple of arguments.
    ///
    /// # Errors
    ///
    /// As [`map`](Pool::map).
    pub fn starmap<F, Args>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let mut results = self.send_all(function, items);
        let mut found: Vec<Option<F::Output>> = (0..results.missing).map(|_| None).collect();
        while let Some((index, result)) = results.next() {
            found[index] = Some(decode(result)?);
        }
        found.into_iter().map(|value| value.ok_or(TaskError::Cancelled)).collect()
    }

    /// Calls `function` with each of `items`; gives what it returned as it comes in, in any order.
    ///
    /// Items are taken from the iterator only as results are asked for, a few for each worker ahead: an endless iterator runs in flat
    /// memory.
    pub fn imap_unordered<F, T, I>(&self, function: F, items: I) -> Imap<'_, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        Imap::new(self, function, items.into_iter(), false)
    }

    /// As [`imap_unordered`](Pool::imap_unordered), in the order of the items.
    pub fn imap<F, T, I>(&self, function: F, items: I) -> Imap<'_, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        Imap::new(self, function, items.into_iter(), true)
    }

    /// Submits all `items` in chunks.
    fn send_all<F, Args>(&self, function: F, items: impl IntoIterator<Item = Args>) -> Results<'_>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        let mut results = Results { pool: self, unwanted: Unwanted::default(), receiver, missing: 0 };
        let routine = Routine::of::<F, Args>(function);
        let mut ready = VecDeque::new();
        for args in items {
            let receipt = Receipt::new(ToStream(results.missing, sender.clone()));
            results.missing += 1;
            match Item::new(&args, receipt) {
                Ok(item) => ready.push_back(item),
                Err((error, receipt)) => receipt.settle(Err(TaskError::Encode(error))),
            }
        }
        let Some(routine) = routine else {
            ready.into_iter().for_each(|item| item.receipt.settle(Err(TaskError::UnknownFunction)));
            return results;
        };
        let chunk = ready.len().div_ceil(self.workers() * CHUNKS).clamp(1, LONGEST);
        while !ready.is_empty() {
            let length = chunk_length(&ready, chunk);
            let items = ready.drain(..length).collect();
            let (routine, unwanted) = (routine.clone(), Some(Arc::clone(&results.unwanted)));
            self.submit(Job { routine, timeout: self.default_timeout(), unwanted, items });
        }
        results
    }
}

/// How many of `items` go into one chunk: at most `most`, and one record holds neither too many bytes nor too many handles.
fn chunk_length(items: &VecDeque<Item>, most: usize) -> usize {
    let (mut bytes, mut handles) = (0, 0);
    let fits = |item: &&Item| {
        bytes += item.bytes.len();
        handles += item.handles.len();
        bytes <= HEAVIEST && handles <= MOST_HANDLES
    };
    items.iter().take(most).take_while(fits).count().max(1)
}

/// Results of [`Pool::imap`] or [`Pool::imap_unordered`], as they come in.
///
/// Dropping it cancels what has not started.
#[must_use = "nothing is computed unless results are asked for"]
pub struct Imap<'a, F, I, T> {
    pool: &'a Pool,
    function: F,
    items: std::iter::Fuse<I>,
    sender: Sender<Numbered>,
    receiver: Receiver<Numbered>,
    unwanted: Unwanted,
    submitted: usize,
    received: usize,
    /// In order: the number that comes next, and what came before its turn.
    in_order: Option<(usize, Early)>,
    item: PhantomData<fn(T)>,
}

impl<'a, F, I: Iterator, T> Imap<'a, F, I, T> {
    fn new(pool: &'a Pool, function: F, items: I, in_order: bool) -> Imap<'a, F, I, T> {
        let (sender, receiver) = mpsc::channel();
        Imap {
            pool,
            function,
            items: items.fuse(),
            sender,
            receiver,
            unwanted: Unwanted::default(),
            submitted: 0,
            received: 0,
            in_order: in_order.then(|| (0, BTreeMap::new())),
            item: PhantomData,
        }
    }

    /// How many items may be on their way or waiting for their turn.
    fn window(&self) -> usize {
        self.pool.workers() * WINDOW
    }
}

impl<F, I, T> Iterator for Imap<'_, F, I, T>
where
    F: Task<(T,)>,
    I: Iterator<Item = T>,
    T: Serialize + DeserializeOwned + 'static,
    F::Output: Serialize + DeserializeOwned + 'static,
{
    type Item = Result<F::Output, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let early = self.in_order.as_ref().map_or(0, |(_, early)| early.len());
            while self.submitted - self.received + early < self.window() {
                let Some(item) = self.items.next() else { break };
                let receipt = Receipt::new(ToStream(self.submitted, self.sender.clone()));
                self.submitted += 1;
                let unwanted = Some(Arc::clone(&self.unwanted));
                let options = Options { timeout: self.pool.default_timeout(), unwanted };
                self.pool.submit_one::<F, (T,)>(self.function, &(item,), options, receipt);
            }
            if let Some((next, early)) = &mut self.in_order
                && let Some(result) = early.remove(next)
            {
                *next += 1;
                return Some(decode(result));
            }
            if self.received == self.submitted {
                return None;
            }
            // Every item settles exactly once, and this end holds a sender: there is always something to come.
            let (index, result) = self.receiver.recv().ok()?;
            self.received += 1;
            match &mut self.in_order {
                None => return Some(decode(result)),
                Some((_, early)) => drop(early.insert(index, result)),
            }
        }
    }
}

impl<F, I, T> Drop for Imap<'_, F, I, T> {
    fn drop(&mut self) {
        if self.received < self.submitted {
            self.pool.forget(&self.unwanted);
        }
    }
}

impl<F, I, T> fmt::Debug for Imap<'_, F, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Imap");
        out.field("submitted", &self.submitted).field("received", &self.received).finish_non_exhaustive()
    }
}
