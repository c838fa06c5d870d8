//! The halves of a queue: `Sender` and `Receiver`.

use crate::core::Core;
use crate::end::{End, Kind};
use crate::error::{GetError, GetTimeoutError, PutError, PutTimeoutError, TryGetError, TryPutError};
use crate::methods::{get, getting, looking, put, putting};
use mp_core::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use std::marker::PhantomData;
use std::time::{Duration, Instant};
use std::{fmt, io};

/// The end of a [`Queue`](crate::Queue) that puts. When all senders are gone, receivers drain the queue and then get
/// [`Disconnected`](GetError::Disconnected).
pub struct Sender<T> {
    end: End,
    values: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    /// It holds one lifeline only, so the other side can be seen to go.
    const WATCHED: bool = true;

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

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender::over(self.end.clone())
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().describe("Sender", f)
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        End::serialize(Kind::Sender, &[&self.end], serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        End::deserialize(Kind::Sender, deserializer).map(|(end, _)| Sender::over(end))
    }
}

/// The end of a [`Queue`](crate::Queue) that gets. When all receivers are gone, senders get
/// [`Disconnected`](PutError::Disconnected) with the value.
pub struct Receiver<T> {
    end: End,
    values: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    /// It holds one lifeline only, so the other side can be seen to go.
    const WATCHED: bool = true;

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

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver::over(self.end.clone())
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core().describe("Receiver", f)
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        End::serialize(Kind::Receiver, &[&self.end], serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        End::deserialize(Kind::Receiver, deserializer).map(|(end, _)| Receiver::over(end))
    }
}
