//! Many tasks of one function: `map` and its kin.

use crate::async_result::{AsyncResult, Slot, caught, decode_many};
use crate::callbacks::ToCallback;
use crate::error::TaskError;
use crate::gather::{Gather, ToPieces, Whole};
use crate::job::{AtomicWish, Function, Item, Items, Job, Receipt, Sink};
use crate::pack::{Packer, Piece, Pieces, Unpackable};
use crate::pool::Pool;
use crate::task::TaskOptions;
use mp_core::Deadline;
use mp_process::Task;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many chunks for each worker, so that the last ones end at about the same time.
const CHUNKS: usize = 4;
/// The longest chunk: it is what one worker holds, though what has not started can be taken back.
const LONGEST: usize = 4096;
/// The most bytes of arguments in a chunk of several items.
pub(crate) const HEAVIEST: usize = 64 << 10;
/// The most handles in a chunk of several items: the kernel keeps only so many in flight.
const MOST_HANDLES: usize = 64;

/// A pack begins with so many items, and each is twice as large as the one before: the workers begin at once, and the submitter is ahead.
const FIRST_PACK: usize = 16;
/// The most items in a pack, and its bytes, about.
const MOST_PACKED: usize = 1 << 17;
const PACK_BYTES: usize = 256 << 10;

/// Results of many items as they come in. What has not started when it is dropped is cancelled.
struct Results<'a> {
    pool: &'a Pool,
    sink: Arc<ToPieces>,
    /// What came in before its turn.
    early: Pieces,
    /// The number of the item that comes next.
    next: usize,
    /// How many have not come in.
    missing: usize,
    #[cfg(feature = "indicatif")]
    progress: Option<indicatif::ProgressBar>,
}

/// So many items are waited for at once.
const AT_ONCE: usize = 1 << 16;

impl Results<'_> {
    /// Hands each result to `take`, in order; the first error that comes in is handed to it at once if `eager`.
    fn each<R: DeserializeOwned + 'static>(
        &mut self,
        eager: bool,
        mut take: impl FnMut(Result<R, TaskError>) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        while self.missing > 0 {
            // Every item settles exactly once: there is always one to come.
            let at_once = if self.shows_progress() { 1 } else { AT_ONCE.min(self.missing) };
            for (first, piece) in self.sink.take(self.pool.shared(), at_once) {
                self.missing = self.missing.saturating_sub(piece.len());
                #[cfg(feature = "indicatif")]
                self.progress.iter().for_each(|bar| bar.inc(piece.len() as u64));
                match piece {
                    Piece::One(Err(error)) if eager => take(Err(error))?,
                    piece => drop(self.early.insert(first, piece)),
                }
            }
            while let Some(piece) = self.early.remove(&self.next) {
                self.next += piece.len();
                piece.decode(&mut take)?;
            }
        }
        Ok(())
    }

    #[cfg(feature = "indicatif")]
    fn shows_progress(&self) -> bool {
        self.progress.is_some()
    }

    #[cfg(not(feature = "indicatif"))]
    fn shows_progress(&self) -> bool {
        false
    }
}

impl Drop for Results<'_> {
    fn drop(&mut self) {
        if self.missing > 0 {
            self.sink.forget(self.pool.shared());
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
        let mut found = Vec::with_capacity(results.missing);
        // What takes them refuses none.
        let _ = results.each(false, |result| {
            found.push(result);
            Ok(())
        });
        found
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
        let mut found = Vec::with_capacity(results.missing);
        results.each(true, |result| {
            found.push(result?);
            Ok(())
        })?;
        Ok(found)
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
        let call = move |result: Result<Pieces, TaskError>| match caught(|| result.and_then(decode_many)) {
            Ok(values) => callback(values),
            Err(error) => error_callback(error),
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
        let sink = ToPieces::new();
        let pool = self.pool;
        #[cfg(feature = "indicatif")]
        let progress = self.progress.clone();
        let to = Arc::clone(&sink);
        // An iterator that panics leaves nothing behind.
        let mut results = Results {
            pool,
            sink,
            early: Pieces::new(),
            next: 0,
            missing: usize::MAX,
            #[cfg(feature = "indicatif")]
            progress,
        };
        results.missing = self.submit_all(items, move || Arc::clone(&to) as Arc<dyn Sink>, |_| {});
        #[cfg(feature = "indicatif")]
        results.progress.iter().for_each(|bar| bar.set_length(results.missing as u64));
        results
    }

    /// Submits all `items`, in packs as far as they go; returns how many there are, after having said so.
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
        let count = match Function::of_packs::<F, Args>(self.function).filter(|_| self.may_pack()) {
            Some((function, packs)) => {
                let packer = Packer::new::<Args>(packs, self.chunk.is_none());
                self.submit_packs(items, &sink, &function, packer)
            }
            None => return self.submit_each(items, sink, say),
        };
        say(count);
        count
    }

    /// A time-out is for each item, and so is room in a limited queue.
    pub(crate) fn may_pack(&self) -> bool {
        let shared = self.pool.shared();
        self.terms.timeout.is_none() && self.terms.deadline.is_none() && shared.may_pack()
    }

    fn submit_packs<Args>(
        &self,
        items: impl IntoIterator<Item = Args>,
        sink: &impl Fn() -> Arc<dyn Sink>,
        function: &Function,
        mut packer: Packer,
    ) -> usize
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let fixed = self.chunk.map(|chunk| chunk.min(crate::control::MOST_ITEMS as usize));
        let mut size = fixed.unwrap_or(FIRST_PACK);
        let mut count = 0;
        for args in items {
            self.pack(&mut packer, function, count, &args, sink);
            if packer.len() >= size || packer.bytes() >= PACK_BYTES {
                self.submit_pack(&mut packer, function, sink);
                size = fixed.unwrap_or((size * 2).min(MOST_PACKED));
            }
            count += 1;
        }
        self.submit_pack(&mut packer, function, sink);
        count
    }

    /// Adds item `index` to what `packer` gathers. One that fits in no pack goes alone, behind those that were gathered.
    pub(crate) fn pack<Args>(
        &self,
        packer: &mut Packer,
        function: &Function,
        index: usize,
        args: &Args,
        sink: &impl Fn() -> Arc<dyn Sink>,
    ) where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let Err(why) = packer.push(index, args) else { return };
        self.submit_pack(packer, function, sink);
        let receipt = Receipt::new(sink(), index);
        match why {
            Unpackable::Encode(error) => receipt.settle(Err(TaskError::Encode(error))),
            // Without a limit on time it takes what it needs.
            Unpackable::Handles => drop(self.submit_item::<Args>(Item::of(args, receipt), Deadline::NEVER)),
        }
    }

    /// Submits what `packer` has gathered, if anything.
    pub(crate) fn submit_pack(
        &self,
        packer: &mut Packer,
        function: &Function,
        sink: &impl Fn() -> Arc<dyn Sink>,
    ) {
        if let Some(pack) = packer.take(sink()) {
            let job = Job::new(function.clone(), Arc::clone(&self.terms), Items::Packed(Box::new(pack)));
            self.pool.shared().submit(job);
        }
    }

    /// As [`submit_all`](TaskOptions::submit_all), each item with bytes of its own.
    fn submit_each<Args>(
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
            match Item::new(args, Receipt::new(sink(), count)) {
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
