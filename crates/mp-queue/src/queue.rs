//! `Queue` and its halves.

use crate::core::{Core, FIXED, FORMAT, Refused, Taken};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use mp_core::wire::{self, Encoding};
use mp_core::{Deadline, Handle};
use mp_pipe::packet;
use mp_shm::Growable;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use std::borrow::Cow;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// Buffers larger than this are not kept for the next message.
const KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends a buffer of this thread; taken out while in use, since encoding may itself use a queue.
fn with_scratch<R>(body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let result = body(&mut scratch);
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    result
}

fn put<T: Serialize + 'static>(
    core: &Core,
    socket: &Handle,
    watched: bool,
    value: &T,
    deadline: Deadline,
) -> Result<(), Refused> {
    with_scratch(|scratch| {
        let message = wire::encode(value, scratch).map_err(Refused::Encode)?;
        core.put(message, socket, watched, deadline)
    })
}

fn get<T: DeserializeOwned + 'static>(
    core: &Core,
    socket: &Handle,
    watched: bool,
    deadline: Deadline,
) -> Result<Option<T>, GetError> {
    let decode = |taken: Taken, bytes: Cow<'_, [u8]>| {
        wire::decode(taken.encoding, bytes, taken.handles).map(Some).map_err(GetError::Decode)
    };
    if Encoding::of::<T>() != Encoding::POSTCARD {
        // The bytes are the value: they are copied once, into it.
        let mut bytes = Vec::new();
        return match core.get(socket, watched, deadline, &mut bytes)? {
            Some(taken) => decode(taken, Cow::Owned(bytes)),
            None => Ok(None),
        };
    }
    with_scratch(|scratch| {
        scratch.clear();
        match core.get(socket, watched, deadline, scratch)? {
            Some(taken) => decode(taken, Cow::Borrowed(scratch)),
            None => Ok(None),
        }
    })
}

macro_rules! putting {
    () => {
        /// Puts `value`; waits while the queue is full, which a queue without a bound never is.
        ///
        /// When it returns, the value is in the queue, and stays there if this process dies.
        ///
        /// # Errors
        ///
        /// See [`PutError`]; the value comes back.
        pub fn put(&self, value: T) -> Result<(), PutError<T>> {
            match put(&self.core, self.put_end(), Self::WATCHED, &value, Deadline::NEVER) {
                Ok(()) => Ok(()),
                Err(refused) => Err(refused.with(value).unwrap_or_else(PutError::Closed)),
            }
        }

        /// Puts `value` if there is room now.
        ///
        /// # Errors
        ///
        /// [`Full`](TryPutError::Full) when not, else see [`PutError`]; the value comes back.
        #[doc(alias = "put_nowait")]
        pub fn try_put(&self, value: T) -> Result<(), TryPutError<T>> {
            match put(&self.core, self.put_end(), Self::WATCHED, &value, Deadline::after(Duration::ZERO)) {
                Ok(()) => Ok(()),
                Err(refused) => Err(refused.with(value).map_or_else(TryPutError::Full, TryPutError::Failed)),
            }
        }

        /// Puts `value`; waits for room at most `timeout`.
        ///
        /// # Errors
        ///
        /// [`TimedOut`](PutTimeoutError::TimedOut) when there was none, else see [`PutError`]; the value comes back.
        pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutTimeoutError<T>> {
            self.put_in_time(value, Deadline::after(timeout))
        }

        /// As [`put_timeout`](Self::put_timeout), until `deadline`.
        ///
        /// # Errors
        ///
        /// As [`put_timeout`](Self::put_timeout).
        pub fn put_deadline(&self, value: T, deadline: Instant) -> Result<(), PutTimeoutError<T>> {
            self.put_in_time(value, Deadline::at(deadline))
        }

        fn put_in_time(&self, value: T, deadline: Deadline) -> Result<(), PutTimeoutError<T>> {
            match put(&self.core, self.put_end(), Self::WATCHED, &value, deadline) {
                Ok(()) => Ok(()),
                Err(refused) => {
                    Err(refused.with(value).map_or_else(PutTimeoutError::TimedOut, PutTimeoutError::Failed))
                }
            }
        }
    };
}

macro_rules! getting {
    () => {
        /// Gets the next value; waits for it.
        ///
        /// # Errors
        ///
        /// See [`GetError`].
        pub fn get(&self) -> Result<T, GetError> {
            // Without a deadline the wait ends only with a value or an error.
            get(&self.core, self.get_end(), Self::WATCHED, Deadline::NEVER)?.ok_or(GetError::Closed)
        }

        /// Gets the next value if there is one now.
        ///
        /// # Errors
        ///
        /// [`Empty`](TryGetError::Empty) when not, else see [`GetError`].
        #[doc(alias = "get_nowait")]
        pub fn try_get(&self) -> Result<T, TryGetError> {
            let now = Deadline::after(Duration::ZERO);
            get(&self.core, self.get_end(), Self::WATCHED, now)?.ok_or(TryGetError::Empty)
        }

        /// Gets the next value; waits for it at most `timeout`.
        ///
        /// # Errors
        ///
        /// [`TimedOut`](GetTimeoutError::TimedOut) when none came, else see [`GetError`].
        pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetTimeoutError> {
            self.get_in_time(Deadline::after(timeout))
        }

        /// As [`get_timeout`](Self::get_timeout), until `deadline`.
        ///
        /// # Errors
        ///
        /// As [`get_timeout`](Self::get_timeout).
        pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetTimeoutError> {
            self.get_in_time(Deadline::at(deadline))
        }

        fn get_in_time(&self, deadline: Deadline) -> Result<T, GetTimeoutError> {
            get(&self.core, self.get_end(), Self::WATCHED, deadline)?.ok_or(GetTimeoutError::TimedOut)
        }

        /// Gets values until the queue is closed (or, on a [`Receiver`], its senders are gone) and drained.
        pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> + '_ {
            std::iter::from_fn(|| match self.get() {
                Err(GetError::Closed | GetError::Disconnected) => None,
                other => Some(other),
            })
        }
    };
}

macro_rules! looking {
    () => {
        /// How many values are inside. Others may change it at any time.
        #[doc(alias = "qsize")]
        #[must_use]
        pub fn len(&self) -> usize {
            usize::try_from(self.core.len()).unwrap_or(usize::MAX)
        }

        /// Whether no value is inside. Others may change it at any time.
        #[doc(alias = "empty")]
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.core.len() == 0
        }

        /// Whether a put would have to wait now. Others may change it at any time.
        #[doc(alias = "full")]
        #[must_use]
        pub fn is_full(&self) -> bool {
            self.core.bound().is_some_and(|bound| self.core.len() >= bound)
        }

        /// How many values it holds at most; `None` without a bound.
        #[must_use]
        pub fn bound(&self) -> Option<usize> {
            self.core.bound().and_then(|bound| usize::try_from(bound).ok())
        }

        /// Closes the queue for everybody: nothing gets in any more; what is inside can still be got. Cannot be undone.
        ///
        /// # Errors
        ///
        /// When the queue's memory was damaged.
        pub fn close(&self) -> io::Result<()> {
            self.core.close()
        }

        /// Whether it was closed. Cannot become open again.
        #[must_use]
        pub fn is_closed(&self) -> bool {
            self.core.is_closed()
        }
    };
}

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
    core: Arc<Core>,
    put_end: Handle,
    get_end: Handle,
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
        Ok(Queue { core, put_end: put_end.into(), get_end: get_end.into(), values: PhantomData })
    }

    fn put_end(&self) -> &Handle {
        &self.put_end
    }

    fn get_end(&self) -> &Handle {
        &self.get_end
    }

    /// Splits this handle into one that puts and one that gets.
    ///
    /// Once no whole [`Queue`] handle is left anywhere, the death of the last sender ends the receivers, and the other way
    /// round.
    #[must_use]
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        let sender =
            Sender { core: Arc::clone(&self.core), put_end: Some(self.put_end), values: PhantomData };
        (sender, Receiver { core: self.core, get_end: Some(self.get_end), values: PhantomData })
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

/// The end of a [`Queue`] that puts. When all senders are gone, receivers drain the queue and then get
/// [`Disconnected`](GetError::Disconnected).
pub struct Sender<T> {
    core: Arc<Core>,
    /// `None` only while it is dropped.
    put_end: Option<Handle>,
    values: PhantomData<fn(T)>,
}

/// The end of a [`Queue`] that gets. When all receivers are gone, senders get
/// [`Disconnected`](PutError::Disconnected) with the value.
pub struct Receiver<T> {
    core: Arc<Core>,
    /// `None` only while it is dropped.
    get_end: Option<Handle>,
    values: PhantomData<fn() -> T>,
}

impl<T> Sender<T> {
    const WATCHED: bool = true;

    fn put_end(&self) -> &Handle {
        self.put_end.as_ref().expect("a sender has its end until it is dropped")
    }

    looking!();
}

impl<T: Serialize + 'static> Sender<T> {
    putting!();
}

impl<T> Receiver<T> {
    const WATCHED: bool = true;

    fn get_end(&self) -> &Handle {
        self.get_end.as_ref().expect("a receiver has its end until it is dropped")
    }

    looking!();
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    getting!();
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The line first, then the news; who was killed is noticed within a slice.
        drop(self.put_end.take());
        self.core.wake_all();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        drop(self.get_end.take());
        self.core.wake_all();
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        let (core, put_end, get_end) = (Arc::clone(&self.core), self.put_end.clone(), self.get_end.clone());
        Queue { core, put_end, get_end, values: PhantomData }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { core: Arc::clone(&self.core), put_end: self.put_end.clone(), values: PhantomData }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { core: Arc::clone(&self.core), get_end: self.get_end.clone(), values: PhantomData }
    }
}

macro_rules! describe {
    ($name:ident) => {
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut out = f.debug_struct(stringify!($name));
                out.field("len", &self.len())
                    .field("bound", &self.bound())
                    .field("closed", &self.is_closed());
                out.finish()
            }
        }
    };
}

describe!(Queue);
describe!(Sender);
describe!(Receiver);

fn open<E: de::Error>(memory: Handle) -> Result<Arc<Core>, E> {
    let fd = Arc::try_unwrap(memory.into_shared()).or_else(|fd| fd.try_clone()).map_err(E::custom)?;
    let memory = Growable::open(fd, FORMAT, FIXED).map_err(E::custom)?;
    Core::open(memory).map(Arc::new).map_err(E::custom)
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.core.memory(), &self.put_end, &self.get_end).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Queue<T>, D::Error> {
        let (memory, put_end, get_end) = Deserialize::deserialize(deserializer)?;
        Ok(Queue { core: open(memory)?, put_end, get_end, values: PhantomData })
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.core.memory(), self.put_end()).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        let (memory, put_end) = Deserialize::deserialize(deserializer)?;
        Ok(Sender { core: open(memory)?, put_end: Some(put_end), values: PhantomData })
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.core.memory(), self.get_end()).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        let (memory, get_end) = Deserialize::deserialize(deserializer)?;
        Ok(Receiver { core: open(memory)?, get_end: Some(get_end), values: PhantomData })
    }
}
