//! Many tasks of one function: `map` and its kin.

use crate::async_result::{AsyncResult, Payload, Slot, decode};
use crate::callbacks::ToCallback;
use crate::error::TaskError;
use crate::job::{AtomicWish, Function, Item, Raw, Receipt, Sink, Wish};
use crate::pool::Pool;
use crate::task::TaskOptions;
use mp_core::Deadline;
use mp_process::Task;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// So many chunks for each worker, so that the last ones end at about the same time.
const CHUNKS: usize = 4;
/// The longest chunk: it is what one worker holds, though what has not started can be taken back.
const LONGEST: usize = 4096;
/// The most bytes of arguments in a chunk of several items.
const HEAVIEST: usize = 64 << 10;
/// The most handles in a chunk of several items: the kernel keeps only so many in flight.
const MOST_HANDLES: usize = 64;

pub(crate) type Numbered = (usize, Result<Raw, TaskError>);

/// Sends each item's result with its number to who waits for them.
pub(crate) struct ToStream {
    sender: Sender<Numbered>,
    wish: AtomicWish,
}

impl ToStream {
    pub(crate) fn new() -> (Arc<ToStream>, Receiver<Numbered>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(ToStream { sender, wish: AtomicWish::default() }), receiver)
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, pool: &Pool) {
        self.wish.lower(Wish::Unwanted);
        pool.shared().tell(|inbox| inbox.unwanted = true);
    }
}

impl Sink for ToStream {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>) {
        // Nobody there: the stream was dropped, and the result is not wanted.
        let _ = self.sender.send((index, result));
    }

    fn wish(&self) -> Wish {
        self.wish.get()
    }
}

/// Results of many items as they come in. What has not started when it is dropped is cancelled.
struct Results<'a> {
    pool: &'a Pool,
    sink: Arc<ToStream>,
    receiver: Receiver<Numbered>,
    /// How many have not come in.
    missing: usize,
    #[cfg(feature = "indicatif")]
    progress: Option<indicatif::ProgressBar>,
}

impl Results<'_> {
    fn next(&mut self) -> Option<Numbered> {
        if self.missing == 0 {
            return None;
        }
        // Every item settles exactly once: there is always one to come.
        let next = self.receiver.recv().ok();
        self.missing = if next.is_some() { self.missing - 1 } else { 0 };
        #[cfg(feature = "indicatif")]
        self.progress.iter().for_each(|bar| bar.inc(1));
        next
    }
}

impl Drop for Results<'_> {
    fn drop(&mut self) {
        if self.missing > 0 {
            self.sink.forget(self.pool);
        }
    }
}

/// Where the whole of a map goes.
enum Whole {
    Slot(Arc<Slot>),
    Callback(ToCallback<Vec<Raw>>, AtomicWish),
}

impl Whole {
    fn fill(&self, result: Result<Vec<Raw>, TaskError>) {
        match self {
            Whole::Slot(slot) => slot.fill(result.map(Payload::Many)),
            Whole::Callback(callback, _) => callback.fill(result),
        }
    }

    fn forget(&self) {
        match self {
            Whole::Slot(slot) => slot.lower(Wish::Unwanted),
            Whole::Callback(_, wish) => wish.lower(Wish::Unwanted),
        }
    }
}

/// Gathers the results of a map that nobody waits for; the first error ends it.
struct Gather {
    whole: Whole,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    raws: Vec<Option<Raw>>,
    missing: usize,
    over: bool,
}

impl Gather {
    fn new(whole: Whole) -> Arc<Gather> {
        // One more than items, until their number is known.
        let found = Found { missing: 1, ..Found::default() };
        Arc::new(Gather { whole, found: Mutex::new(found) })
    }

    /// So many items will come.
    fn expect(&self, items: usize) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.missing += items;
        found.raws.resize_with(items, || None);
        drop(found);
        self.came(|_| {});
    }

    /// One thing less is missing.
    fn came(&self, enter: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        enter(&mut found);
        found.missing = found.missing.saturating_sub(1);
        if found.missing > 0 || found.over {
            return;
        }
        found.over = true;
        let raws = std::mem::take(&mut found.raws);
        drop(found);
        self.whole.fill(Ok(raws.into_iter().flatten().collect()));
    }

    fn failed(&self, error: TaskError) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        // Items of an iterator that panicked end before they were expected.
        found.missing = found.missing.saturating_sub(1);
        let first = !std::mem::replace(&mut found.over, true);
        let raws = std::mem::take(&mut found.raws);
        drop(found);
        drop(raws);
        if first {
            self.whole.fill(Err(error));
            self.whole.forget();
        }
    }
}

impl Sink for Gather {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>) {
        match result {
            Ok(raw) => self.came(|found| {
                if let Some(place) = found.raws.get_mut(index) {
                    *place = Some(raw);
                }
            }),
            Err(error) => self.failed(error),
        }
    }

    fn wish(&self) -> Wish {
        match &self.whole {
            Whole::Slot(slot) => slot.wish(),
            Whole::Callback(_, wish) => wish.get(),
        }
    }
}

impl<'a, F> TaskOptions<'a, F> {
    /// As [`Pool::map`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map`].
    pub fn map<T>(self, items: impl IntoIterator<Item = T>) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.starmap(items.into_iter().map(|item| (item,)))
    }

    /// As [`Pool::try_map`].
    pub fn try_map<T>(self, items: impl IntoIterator<Item = T>) -> Vec<Result<F::Output, TaskError>>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let mut results = self.send_all(items.into_iter().map(|item| (item,)));
        let mut found: Vec<Option<Result<F::Output, TaskError>>> =
            (0..results.missing).map(|_| None).collect();
        while let Some((index, result)) = results.next() {
            found[index] = Some(decode(result));
        }
        found.into_iter().map(|result| result.unwrap_or(Err(TaskError::Cancelled))).collect()
    }

    /// As [`Pool::starmap`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map`].
    pub fn starmap<Args>(self, items: impl IntoIterator<Item = Args>) -> Result<Vec<F::Output>, TaskError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let mut results = self.send_all(items);
        let mut found: Vec<Option<F::Output>> = (0..results.missing).map(|_| None).collect();
        while let Some((index, result)) = results.next() {
            found[index] = Some(decode(result)?);
        }
        found.into_iter().map(|value| value.ok_or(TaskError::Cancelled)).collect()
    }

    /// As [`Pool::map_async`].
    pub fn map_async<T>(self, items: impl IntoIterator<Item = T>) -> AsyncResult<Vec<F::Output>>
    where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.starmap_async(items.into_iter().map(|item| (item,)))
    }

    /// As [`Pool::starmap_async`].
    pub fn starmap_async<Args>(self, items: impl IntoIterator<Item = Args>) -> AsyncResult<Vec<F::Output>>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let slot = Slot::new(Arc::clone(self.pool.shared()));
        let gather = Gather::new(Whole::Slot(Arc::clone(&slot)));
        let sink = Arc::clone(&gather);
        self.submit_all(items, move || Arc::clone(&sink) as Arc<dyn Sink>, |count| gather.expect(count));
        AsyncResult::many(slot)
    }

    /// As [`map_async`](TaskOptions::map_async), and calls back once with all results, or with the first error; see
    /// [`Pool::apply_async_with`].
    pub fn map_async_with<T>(
        self,
        items: impl IntoIterator<Item = T>,
        callback: impl FnOnce(Vec<F::Output>) + Send + 'static,
        error_callback: impl FnOnce(TaskError) + Send + 'static,
    ) where
        F: Task<(T,)>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let call = move |result: Result<Vec<Raw>, TaskError>| {
            let decoded = result.and_then(|raws| raws.into_iter().map(|raw| decode(Ok(raw))).collect());
            match decoded {
                Ok(values) => callback(values),
                Err(error) => error_callback(error),
            }
        };
        let callback = ToCallback::new(self.pool.callbacks().runner(), call);
        let gather = Gather::new(Whole::Callback(callback, AtomicWish::default()));
        let sink = Arc::clone(&gather);
        let items = items.into_iter().map(|item| (item,));
        self.submit_all(items, move || Arc::clone(&sink) as Arc<dyn Sink>, |count| gather.expect(count));
    }

    fn send_all<Args>(self, items: impl IntoIterator<Item = Args>) -> Results<'a>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let (sink, receiver) = ToStream::new();
        let pool = self.pool;
        #[cfg(feature = "indicatif")]
        let progress = self.progress.clone();
        let to = Arc::clone(&sink);
        // An iterator that panics leaves nothing behind.
        let mut results = Results {
            pool,
            sink,
            receiver,
            missing: usize::MAX,
            #[cfg(feature = "indicatif")]
            progress,
        };
        results.missing = self.submit_all(items, move || Arc::clone(&to) as Arc<dyn Sink>, |_| {});
        #[cfg(feature = "indicatif")]
        results.progress.iter().for_each(|bar| bar.set_length(results.missing as u64));
        results
    }

    /// Submits all `items` in chunks; returns how many there are, after having said so.
    fn submit_all<Args>(
        self,
        items: impl IntoIterator<Item = Args>,
        sink: impl Fn() -> Arc<dyn Sink>,
        say: impl FnOnce(usize),
    ) -> usize
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let mut ready = VecDeque::new();
        let mut count = 0;
        let mut failed = Vec::new();
        for args in items {
            match Item::new(&args, Receipt::new(sink(), count)) {
                Ok(item) => ready.push_back(item),
                Err((error, receipt)) => failed.push((receipt, TaskError::Encode(error))),
            }
            count += 1;
        }
        say(count);
        failed.into_iter().for_each(|(receipt, error)| receipt.settle(Err(error)));
        let Some(function) = Function::of::<F, Args>(self.function) else {
            ready.into_iter().for_each(|item| item.receipt.settle(Err(TaskError::UnknownFunction)));
            return count;
        };
        let automatic = || ready.len().div_ceil(self.pool.workers() * CHUNKS).clamp(1, LONGEST);
        let chunk = self.chunk.unwrap_or_else(automatic).min(crate::control::MOST_ITEMS as usize);
        while !ready.is_empty() {
            let length = chunk_length(&ready, chunk);
            let items: VecDeque<Item> = ready.drain(..length).collect();
            // Without a limit on time it takes what it needs.
            let _ = self.send(function.clone(), items, Deadline::NEVER);
        }
        count
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
