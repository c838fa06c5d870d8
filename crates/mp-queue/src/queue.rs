//! `Queue`: both ends in one handle.

use crate::core::Core;
use crate::end::{End, Kind};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use crate::methods::{get, getting, looking, put, putting};
use crate::split::{Receiver, Sender};
use mp_core::Deadline;
use mp_pipe::packet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// A first-in, first-out queue between any number of processes and threads; a handle is both ends.
///
/// Cloning gives another handle in this process; as an argument of a process, or in a message, a handle works there.
///
/// | killed | what the others get |
/// | --- | --- |
/// | a producer in the middle of `put` | the value is not in the queue, or is there whole |
/// | a consumer in the middle of `get` | the value is still there, or was taken whole and is lost with its taker |
/// | a process that waits | nothing: nobody waits for a waiter |
///
/// Whoever may be killed, the others go on at once; a wake-up that the dead one should have passed on is made good within 100 ms.
pub struct Queue<T> {
    put_end: End,
    get_end: End,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// A whole queue holds both lifelines, so neither can be seen cut.
    const WATCHED: bool = false;

    /// Makes a queue without a bound: `put` never waits for room, only memory limits it.
    ///
    /// # Errors
    ///
    /// When there is no memory, or no descriptors are left.
    #[doc(alias = "Queue")]
    pub fn new() -> io::Result<Queue<T>> {
        Queue::create(u64::MAX)
    }

    /// Makes a queue that holds at most `bound` values: `put` waits while it is full.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bound of zero; when there is no memory, or no descriptors are left.
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
        let core = Arc::new(Core::create(bound)?);
        let put_end = End::new(Arc::clone(&core), put_end.into());
        Ok(Queue { put_end, get_end: End::new(core, get_end.into()), values: PhantomData })
    }

    fn put_end(&self) -> &End {
        &self.put_end
    }

    fn get_end(&self) -> &End {
        &self.get_end
    }

    fn core(&self) -> &Core {
        self.put_end.core()
    }

    /// Splits this handle into one that puts and one that gets.
    ///
    /// Once no whole [`Queue`] handle is left anywhere, the death of the last sender ends the receivers, and the other way
    /// round.
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

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { put_end: self.put_end.clone(), get_end: self.get_end.clone(), values: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().describe("Queue", f)
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        End::serialize(Kind::Whole, &[&self.put_end, &self.get_end], serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T>, D::Error> {
        let (put_end, get_end) = End::deserialize(Kind::Whole, deserializer)?;
        let get_end = get_end.ok_or_else(|| de::Error::custom("a queue without its second end"))?;
        Ok(Queue { put_end, get_end, values: PhantomData })
    }
}
