//! `Queue`: both ends in one handle.

use crate::core::Core;
use crate::end::{End, Kind};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use crate::methods::{get, getting, handle, looking, put, putting};
use crate::split::{Receiver, Sender};
use mp_core::Deadline;
use mp_pipe::packet;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A first-in, first-out queue between any number of processes and threads; a handle is both ends.
///
/// A clone is another handle in this process. As an argument of a process, in a message, or given with [`give`](crate::give()), a handle works in
/// another process, too. Values stay inside when those who put them are gone, until the last handle of the queue is.
///
/// What the others get when a process is killed in the middle of an operation: see [the crate's page](crate#what-happens-when-a-process-dies).
///
/// # Examples
///
/// ```
/// use mp_queue::Queue;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = Queue::new()?;
/// queue.put(("a tuple".to_owned(), 1))?;
/// queue.put(("another".to_owned(), 2))?;
/// assert_eq!(queue.get()?, ("a tuple".to_owned(), 1));
/// queue.close()?;
/// assert_eq!(queue.iter().count(), 1);
/// # Ok(())
/// # }
/// ```
///
/// Queues travel through queues: here each question brings the queue for its answer.
///
/// ```
/// use mp_queue::Queue;
/// use std::thread;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let questions: Queue<(u64, Queue<u64>)> = Queue::new()?;
/// let server = {
///     let questions = questions.clone();
///     thread::spawn(move || {
///         let (number, answer) = questions.get().unwrap();
///         answer.put(number * number).unwrap();
///     })
/// };
/// let answer = Queue::new()?;
/// questions.put((12, answer.clone()))?;
/// assert_eq!(answer.get()?, 144);
/// # server.join().unwrap();
/// # Ok(())
/// # }
/// ```
pub struct Queue<T> {
    put_end: End,
    get_end: End,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A whole queue holds both lifelines, so neither can be seen cut.
    pub(crate) const WATCHED: bool = false;

    /// Makes a queue without a bound: `put` never waits for room, only memory limits it.
    ///
    /// # Errors
    ///
    /// When there is no memory, or no descriptors are left.
    pub fn new() -> io::Result<Queue<T>> {
        Queue::create(u64::MAX)
    }

    /// Makes a queue that holds at most `bound` values: `put` waits while it is full.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bound of zero; when there is no memory, or no descriptors are left.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_queue::{Queue, TryPutError};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let queue = Queue::bounded(1)?;
    /// queue.put("first".to_owned())?;
    /// assert!(queue.is_full());
    /// match queue.try_put("second".to_owned()) {
    ///     Err(TryPutError::Full(second)) => assert_eq!(second, "second"), // it comes back
    ///     other => panic!("{other:?}"),
    /// }
    /// assert!(queue.put_timeout("second".to_owned(), Duration::from_millis(10)).unwrap_err().is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "maxsize")]
    pub fn bounded(bound: usize) -> io::Result<Queue<T>> {
        if bound == 0 {
            let text = "a queue that holds nothing: use a bound of one or more, or `Queue::new` for none";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Queue::create(bound as u64)
    }

    fn create(bound: u64) -> io::Result<Queue<T>> {
        let (put_end, get_end) = packet::pair()?;
        let core = Arc::new(Core::create(bound, None)?);
        let put_end = End::new(Arc::clone(&core), put_end.into());
        Ok(Queue { put_end, get_end: End::new(core, get_end.into()), values: PhantomData })
    }

    pub(crate) fn put_end(&self) -> &End {
        &self.put_end
    }

    pub(crate) fn get_end(&self) -> &End {
        &self.get_end
    }

    fn core(&self) -> &Core {
        self.put_end.core()
    }

    /// Splits this handle into one that puts and one that gets.
    ///
    /// Once no whole [`Queue`] handle is left anywhere, the end of the last sender ends the receivers, and the other way
    /// round; however it went.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_queue::{PutError, Queue};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, receiver) = Queue::new()?.split();
    /// sender.put(1)?;
    /// drop(sender);
    /// assert_eq!(receiver.get()?, 1);
    /// assert!(receiver.get().unwrap_err().is_disconnected());
    ///
    /// let (sender, receiver) = Queue::new()?.split();
    /// drop(receiver);
    /// assert!(matches!(sender.put(2), Err(PutError::Disconnected(2))));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (Sender::over(self.put_end), Receiver::over(self.get_end))
    }

    /// Keeps only the end that puts.
    #[must_use]
    pub fn into_sender(self) -> Sender<T> {
        self.split().0
    }

    /// Keeps only the end that gets.
    #[must_use]
    pub fn into_receiver(self) -> Receiver<T> {
        self.split().1
    }

    looking!();
}

impl<T: Serialize + 'static> Queue<T> {
    putting!();
}

impl<T: DeserializeOwned + 'static> Queue<T> {
    getting!();
}

handle!(Queue, Kind::Whole, put_end, get_end);
