//! A stream of results whose items are taken only a few ahead.

use crate::async_result::decode;
use crate::error::TaskError;
use crate::gather::{Numbered, ToStream};
use crate::job::{Function, Raw, Receipt, Sink};
use crate::pack::Packer;
use crate::task::TaskOptions;
use mp_core::Deadline;
use mp_process::Task;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// So many items for each worker are on their way.
const WINDOW: usize = 4;

/// So many chunks for each worker are on their way, where items go in chunks.
const CHUNKS: usize = 2;

/// What came in before its turn.
type Early = BTreeMap<usize, Result<Raw, TaskError>>;

/// Results of [`Pool::imap`](crate::Pool::imap) or [`imap_unordered`](crate::Pool::imap_unordered), as they come in.
///
/// Dropping it cancels what has not started.
#[must_use = "nothing is computed unless results are asked for"]
pub struct Imap<'a, F, I, T> {
    task: TaskOptions<'a, F>,
    items: std::iter::Fuse<I>,
    sink: Arc<ToStream>,
    receiver: Receiver<Numbered>,
    submitted: usize,
    received: usize,
    /// Gathers items that go to a worker together, where some do.
    packer: Option<(Function, Packer)>,
    /// In order: the number that comes next, and what came before its turn.
    in_order: Option<(usize, Early)>,
    item: PhantomData<fn(T)>,
}

impl<'a, F> TaskOptions<'a, F> {
    /// As [`Pool::imap`](crate::Pool::imap).
    pub fn imap<T, I>(self, items: I) -> Imap<'a, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        Imap::new(self, items.into_iter(), true)
    }

    /// As [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    pub fn imap_unordered<T, I>(self, items: I) -> Imap<'a, F, I::IntoIter, T>
    where
        F: Task<(T,)>,
        I: IntoIterator<Item = T>,
        T: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        Imap::new(self, items.into_iter(), false)
    }
}

impl<'a, F, I: Iterator, T> Imap<'a, F, I, T> {
    fn new(task: TaskOptions<'a, F>, items: I, in_order: bool) -> Imap<'a, F, I, T> {
        let (sink, receiver) = ToStream::new();
        #[cfg(feature = "indicatif")]
        if let (Some(bar), (_, Some(most))) = (&task.progress, items.size_hint()) {
            bar.set_length(most as u64);
        }
        Imap {
            task,
            items: items.fuse(),
            sink,
            receiver,
            submitted: 0,
            received: 0,
            packer: None,
            in_order: in_order.then(|| (0, BTreeMap::new())),
            item: PhantomData,
        }
    }

    /// How many items may be on their way or waiting for their turn.
    fn window(&self) -> usize {
        let chunk = self.task.chunk.unwrap_or(1);
        let automatic = || self.task.pool.workers().saturating_mul(WINDOW.max(chunk.saturating_mul(CHUNKS)));
        self.task.buffer.unwrap_or_else(automatic)
    }
}

/// No result came in time; the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet;

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no result of the stream came in time")
    }
}

impl std::error::Error for NotYet {}

impl<F, I, T> Imap<'_, F, I, T>
where
    F: Task<(T,)>,
    I: Iterator<Item = T>,
    T: Serialize + DeserializeOwned + 'static,
    F::Output: Serialize + DeserializeOwned + 'static,
{
    /// As [`next`](Iterator::next), but waits at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`NotYet`] when nothing came in time: ask again.
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Result<F::Output, TaskError>>, NotYet> {
        self.advance(Instant::now().checked_add(timeout))
    }

    fn fill(&mut self) {
        let chunk = self.task.chunk.unwrap_or(1).min(self.window());
        if chunk > 1 && self.packer.is_none() && self.task.may_pack() {
            let function = Function::of_packs::<F, (T,)>(self.task.function);
            self.packer = function.map(|(function, packs)| (function, Packer::new::<(T,)>(packs, false)));
        }
        loop {
            let early = self.in_order.as_ref().map_or(0, |(_, early)| early.len());
            if self.submitted - self.received + early >= self.window() {
                return;
            }
            let more = if self.packer.is_some() { self.submit_chunk(chunk) } else { self.submit_one() };
            if !more {
                return;
            }
        }
    }

    /// False when there is none.
    fn submit_one(&mut self) -> bool {
        let Some(item) = self.items.next() else { return false };
        let receipt = Receipt::new(Arc::clone(&self.sink) as Arc<dyn Sink>, self.submitted);
        self.submitted += 1;
        self.task.submit::<(T,)>((item,), receipt, Deadline::NEVER);
        true
    }

    /// The next `most` items, as one; false when there are no more.
    fn submit_chunk(&mut self, most: usize) -> bool {
        let Imap { task, items, sink, submitted, packer: Some((function, packer)), .. } = self else {
            return false;
        };
        let sink = || Arc::clone(sink) as Arc<dyn Sink>;
        for _ in 0..most {
            // What comes before a panic of the iterator is computed all the same.
            match panic::catch_unwind(AssertUnwindSafe(|| items.next())) {
                Ok(Some(item)) => {
                    task.pack(packer, function, *submitted, &(item,), &sink);
                    *submitted += 1;
                }
                Ok(None) => {
                    task.submit_pack(packer, function, &sink);
                    return false;
                }
                Err(payload) => {
                    task.submit_pack(packer, function, &sink);
                    panic::resume_unwind(payload);
                }
            }
        }
        task.submit_pack(packer, function, &sink);
        true
    }

    fn advance(&mut self, until: Option<Instant>) -> Result<Option<Result<F::Output, TaskError>>, NotYet> {
        loop {
            self.fill();
            if let Some((next, early)) = &mut self.in_order
                && let Some(result) = early.remove(next)
            {
                *next += 1;
                return Ok(Some(self.done(result)));
            }
            if self.received == self.submitted {
                return Ok(None);
            }
            // Every item settles exactly once, and the sink holds a sender: there is always something to come.
            let came = match until {
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            let (index, result) = came.map_err(|_| NotYet)?;
            self.received += 1;
            match &mut self.in_order {
                None => return Ok(Some(self.done(result))),
                Some((_, early)) => drop(early.insert(index, result)),
            }
        }
    }

    fn done(&self, result: Result<Raw, TaskError>) -> Result<F::Output, TaskError> {
        #[cfg(feature = "indicatif")]
        self.task.progress.iter().for_each(|bar| bar.inc(1));
        decode(result)
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
        self.advance(None).ok().flatten()
    }
}

impl<F, I, T> Drop for Imap<'_, F, I, T> {
    fn drop(&mut self) {
        if self.received < self.submitted {
            self.sink.forget(self.task.pool);
        }
    }
}

impl<F, I, T> fmt::Debug for Imap<'_, F, I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Imap");
        out.field("submitted", &self.submitted).field("received", &self.received).finish_non_exhaustive()
    }
}
