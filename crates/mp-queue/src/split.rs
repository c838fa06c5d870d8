//! The halves of a queue: `Sender` and `Receiver`.

use crate::core::Core;
use crate::end::{End, Kind};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use crate::methods::{get, getting, handle, looking, put, putting};
use mp_core::Deadline;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// The end of a [`Queue`](crate::Queue) that puts. When all senders are gone, receivers drain the queue and then get
/// [`Disconnected`](GetError::Disconnected).
pub struct Sender<T> {
    end: End,
    values: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    /// It holds one lifeline only, so the other side can be seen to go.
    pub(crate) const WATCHED: bool = true;

    pub(crate) fn over(end: End) -> Sender<T> {
        Sender { end, values: PhantomData }
    }

    pub(crate) fn put_end(&self) -> &End {
        &self.end
    }

    fn core(&self) -> &Core {
        self.end.core()
    }

    looking!();
}

impl<T: Serialize + 'static> Sender<T> {
    putting!();
}

handle!(Sender, Kind::Sender, end);

/// The end of a [`Queue`](crate::Queue) that gets. When all receivers are gone, senders get
/// [`Disconnected`](PutError::Disconnected) with the value.
pub struct Receiver<T> {
    end: End,
    values: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    /// It holds one lifeline only, so the other side can be seen to go.
    pub(crate) const WATCHED: bool = true;

    pub(crate) fn over(end: End) -> Receiver<T> {
        Receiver { end, values: PhantomData }
    }

    pub(crate) fn get_end(&self) -> &End {
        &self.end
    }

    fn core(&self) -> &Core {
        self.end.core()
    }

    looking!();
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    getting!();
}

handle!(Receiver, Kind::Receiver, end);
