//! `SimpleQueue`: a queue reduced to what needs no choice.

use crate::error::{GetError, PutError};
use crate::queue::Queue;
use mp_core::Waitable;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// A [`Queue`] without a bound, time-outs and halves: put, get, empty, close.
///
/// As Python's, with two differences: `put` never waits for a reader, and `close` is for everybody, who can still get what is inside.
/// [`into_queue`](SimpleQueue::into_queue) gives the same queue with all it can do.
///
/// # Examples
///
/// ```
/// use mp_queue::SimpleQueue;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = SimpleQueue::new()?;
/// queue.put("obj".to_owned())?;
/// assert!(!queue.is_empty());
/// assert_eq!(queue.get()?, "obj");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When there is no memory, or no descriptors are left.
    pub fn new() -> io::Result<SimpleQueue<T>> {
        Queue::new().map(SimpleQueue)
    }

    /// Whether no value is inside. Others may change it at any time.
    #[doc(alias = "empty")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes the queue for everybody: nothing gets in any more; what is inside can still be got. Twice is as once.
    ///
    /// # Errors
    ///
    /// When the queue's memory was damaged.
    pub fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    /// The same queue, with all that a queue can do.
    #[must_use]
    pub fn into_queue(self) -> Queue<T> {
        self.0
    }
}

impl<T: Serialize + 'static> SimpleQueue<T> {
    /// Puts `value`; never waits for room.
    ///
    /// # Errors
    ///
    /// See [`PutError`]; the value comes back.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.0.put(value)
    }
}

impl<T: DeserializeOwned + 'static> SimpleQueue<T> {
    /// Gets the next value; waits for it.
    ///
    /// # Errors
    ///
    /// See [`GetError`].
    pub fn get(&self) -> Result<T, GetError> {
        self.0.get()
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> SimpleQueue<T> {
        SimpleQueue(self.0.clone())
    }
}

impl<T> From<SimpleQueue<T>> for Queue<T> {
    fn from(simple: SimpleQueue<T>) -> Queue<T> {
        simple.0
    }
}

/// Ready when a get would not wait.
impl<T> Waitable for SimpleQueue<T> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.wait_fd()
    }

    fn is_ready(&self) -> io::Result<bool> {
        self.0.is_ready()
    }
}

impl<T> AsFd for SimpleQueue<T> {
    /// As [`Queue`]'s.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T> AsRawFd for SimpleQueue<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
