//! Results of several tasks in the order in which they are done.

use crate::async_result::AsyncResult;
use crate::error::TaskError;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Tells the number of a task that is done.
struct Tell {
    number: usize,
    done: Mutex<Option<Sender<usize>>>,
}

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            // Nobody there: the iterator was dropped.
            let _ = done.send(self.number);
        }
    }
}

/// See [`as_completed`].
pub struct AsCompleted<R> {
    results: Vec<Option<AsyncResult<R>>>,
    done: Receiver<usize>,
    left: usize,
}

/// Gives the results of `results` in the order in which they are done, each with its number in `results`. Dropping it detaches those that
/// are left.
///
/// ```no_run
/// # fn work(n: u64) -> u64 { n }
/// # let pool = mp_pool::Pool::new(2)?;
/// let results = (0..10).map(|n| pool.apply_async(work, (n,)));
/// for (number, result) in mp_pool::as_completed(results) {
///     println!("task {number}: {result:?}");
/// }
/// # Ok::<(), mp_pool::PoolError>(())
/// ```
pub fn as_completed<R>(results: impl IntoIterator<Item = AsyncResult<R>>) -> AsCompleted<R> {
    let (sender, done) = mpsc::channel();
    let results: Vec<_> = results.into_iter().map(Some).collect();
    for (number, result) in results.iter().enumerate() {
        let tell = Arc::new(Tell { number, done: Mutex::new(Some(sender.clone())) });
        let waker = Waker::from(Arc::clone(&tell));
        if !result.as_ref().is_some_and(|result| result.slot().wake_when_ready(&waker)) {
            tell.wake();
        }
    }
    AsCompleted { left: results.len(), results, done }
}

impl<R: DeserializeOwned + 'static> AsCompleted<R> {
    /// As [`next`](Iterator::next), but waits at most until `deadline`; `None` also when nothing is done by then: see
    /// [`len`](AsCompleted::len).
    pub fn next_deadline(&mut self, deadline: Instant) -> Option<(usize, Result<R, TaskError>)> {
        let number = self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
        self.take(number)
    }

    /// As [`next_deadline`](AsCompleted::next_deadline), for a time from now.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(usize, Result<R, TaskError>)> {
        let number = self.done.recv_timeout(timeout).ok()?;
        self.take(number)
    }

    fn take(&mut self, number: usize) -> Option<(usize, Result<R, TaskError>)> {
        let result = self.results.get_mut(number)?.take()?;
        self.left -= 1;
        Some((number, result.get()))
    }
}

impl<R> AsCompleted<R> {
    /// How many have not been given.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all have been given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Those that have not been given, with their numbers.
    pub fn into_rest(self) -> impl Iterator<Item = (usize, AsyncResult<R>)> {
        self.results.into_iter().enumerate().filter_map(|(number, result)| Some((number, result?)))
    }
}

impl<R: DeserializeOwned + 'static> Iterator for AsCompleted<R> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // Each waker tells once, whatever becomes of the task, and holds a sender until then.
        let number = self.done.recv().ok()?;
        self.take(number)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).finish_non_exhaustive()
    }
}
