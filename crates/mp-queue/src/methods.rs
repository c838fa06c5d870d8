//! The methods that a whole queue shares with its halves, and how values become messages under them.

use crate::claims::Claimed;
use crate::core::Core;
#[cfg(feature = "async")]
use crate::end::End;
use crate::error::GetError;
#[cfg(feature = "async")]
use crate::error::PutError;
use crate::get::Taken;
use crate::put::Refused;
#[cfg(feature = "async")]
use crate::ready::{Room, Values};
use mp_core::handle::Handles;
use mp_core::wire::{self, Encoding, Message};
use mp_core::{Deadline, DecodeError, Handle};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::cell::Cell;
#[cfg(feature = "async")]
use std::time::Duration;

/// Buffers larger than this are not kept for the next message.
const KEPT_MOST: usize = 1 << 20;

thread_local! {
    static SCRATCH: Cell<Option<Box<Kept>>> = const { Cell::new(None) };
}

/// In a box, so that what moves is one word.
#[derive(Default)]
struct Kept(Vec<u8>);

/// A buffer of this thread; taken out while in use, since encoding may itself use a queue. No closure is lent it: what that returns would go through
/// memory, as a vector that moves would, and both cost what is told at [`Core::put_plain`].
struct Scratch(Option<Box<Kept>>);

impl Scratch {
    #[inline(always)]
    fn take() -> Scratch {
        // In the destructor of another thread-local it may be gone already.
        let kept = SCRATCH.try_with(Cell::take).ok().flatten();
        Scratch(Some(kept.unwrap_or_default()))
    }

    #[inline(always)]
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0.get_or_insert_default().0
    }
}

impl Drop for Scratch {
    #[inline(always)]
    fn drop(&mut self) {
        if self.0.as_ref().is_some_and(|buffer| buffer.0.capacity() <= KEPT_MOST) {
            let _ = SCRATCH.try_with(|kept| kept.set(self.0.take()));
        }
    }
}

#[inline]
pub(crate) fn put<T: Serialize + 'static>(
    core: &Core,
    socket: &Handle,
    watched: bool,
    value: &T,
    deadline: Deadline,
) -> Result<(), Refused> {
    // Where the bytes are the value, nothing is written to a buffer.
    if let Some((encoding, bytes)) = wire::own(value) {
        return put_bytes(core, socket, watched, encoding, bytes, deadline);
    }
    let mut scratch = Scratch::take();
    let message = match wire::encode(value, scratch.buffer()) {
        Ok(message) => message,
        Err(error) => return Err(Refused::Encode(error)),
    };
    if message.handles.is_empty() && core.put_plain(message.encoding, message.bytes, socket, watched) {
        return Ok(());
    }
    core.put(message, socket, watched, deadline)
}

/// Puts bytes that are the value.
#[inline(always)]
pub(crate) fn put_bytes(
    core: &Core,
    socket: &Handle,
    watched: bool,
    encoding: Encoding,
    bytes: &[u8],
    deadline: Deadline,
) -> Result<(), Refused> {
    if core.put_plain(encoding, bytes, socket, watched) {
        return Ok(());
    }
    core.put(Message { encoding, bytes, handles: Handles::default() }, socket, watched, deadline)
}

/// Puts, in a future: waits in the kernel for room, and tries again.
#[cfg(feature = "async")]
pub(crate) async fn put_async<T: Serialize + 'static>(
    end: &End,
    watched: bool,
    mut value: T,
) -> Result<(), PutError<T>> {
    loop {
        // Returns at once when there is room, so nothing is encoded in vain.
        if let Err(error) = mp_core::ready(&Room(end)).await {
            return Err(PutError::Io(value, error));
        }
        let now = Deadline::after(Duration::ZERO);
        match put(end.core(), end.socket(), watched, &value, now) {
            Ok(()) => return Ok(()),
            Err(refused) => value = refused.with(value).map_or_else(Ok, Err)?,
        }
    }
}

/// Gets, in a future: waits in the kernel for a value, and tries again. Nothing is taken but by a poll that returns it.
#[cfg(feature = "async")]
pub(crate) async fn get_async<T: DeserializeOwned + 'static>(
    end: &End,
    watched: bool,
) -> Result<(T, Option<Claimed>), GetError> {
    loop {
        let now = Deadline::after(Duration::ZERO);
        if let Some(got) = get_claimed(end.core(), end.socket(), watched, now)? {
            return Ok(got);
        }
        mp_core::ready(&Values { end, watched }).await.map_err(GetError::Io)?;
    }
}

/// Gets and decodes the next value; on a queue that can be joined it is this process's to settle, in its turn.
#[inline]
pub(crate) fn get<T: DeserializeOwned + 'static>(
    core: &Core,
    socket: &Handle,
    watched: bool,
    deadline: Deadline,
) -> Result<Option<T>, GetError> {
    if let Some(got) = get_plain(core) {
        return got.map(Some).map_err(GetError::Decode);
    }
    let got = get_claimed(core, socket, watched, deadline)?;
    Ok(got.map(|(value, claimed)| {
        if let Some(claimed) = claimed {
            core.keep(claimed);
        }
        value
    }))
}

/// See [`Core::get_plain`].
#[inline(always)]
fn get_plain<T: DeserializeOwned + 'static>(core: &Core) -> Option<Result<T, DecodeError>> {
    if Encoding::of::<T>() != Encoding::POSTCARD {
        let mut bytes = Vec::new();
        let encoding = core.get_plain(&mut bytes)?;
        return Some(wire::decode(encoding, Cow::Owned(bytes), Vec::new()));
    }
    let mut scratch = Scratch::take();
    let bytes = scratch.buffer();
    bytes.clear();
    let encoding = core.get_plain(bytes)?;
    Some(wire::decode(encoding, Cow::Borrowed(bytes), Vec::new()))
}

/// As [`get`], with the claim.
pub(crate) fn get_claimed<T: DeserializeOwned + 'static>(
    core: &Core,
    socket: &Handle,
    watched: bool,
    deadline: Deadline,
) -> Result<Option<(T, Option<Claimed>)>, GetError> {
    if Encoding::of::<T>() != Encoding::POSTCARD {
        // The bytes are the value: they are copied once, into it.
        let mut bytes = Vec::new();
        return match core.get(socket, watched, deadline, &mut bytes)? {
            Some(taken) => decode(core, taken, Cow::Owned(bytes)).map(Some),
            None => Ok(None),
        };
    }
    let mut scratch = Scratch::take();
    let bytes = scratch.buffer();
    bytes.clear();
    match core.get(socket, watched, deadline, bytes)? {
        Some(taken) => decode(core, taken, Cow::Borrowed(bytes)).map(Some),
        None => Ok(None),
    }
}

/// Decodes what was taken. What cannot be decoded, or panics, is nobody's to do: its claim is counted lost.
pub(crate) fn decode<T: DeserializeOwned + 'static>(
    core: &Core,
    taken: Taken,
    bytes: Cow<'_, [u8]>,
) -> Result<(T, Option<Claimed>), GetError> {
    struct Lost<'a>(&'a Core, Option<Claimed>);
    impl Drop for Lost<'_> {
        fn drop(&mut self) {
            self.0.lose(self.1);
        }
    }
    let mut claimed = Lost(core, taken.claimed);
    let value = wire::decode(taken.encoding, bytes, taken.handles).map_err(GetError::Decode)?;
    Ok((value, claimed.1.take()))
}

macro_rules! putting {
    () => {
        /// Puts `value`; waits while the queue is full, which a queue without a bound never is.
        ///
        /// When it returns, the value is in the queue, and stays there if this process dies. There is no thread to be
        /// joined that would put it later.
        ///
        /// # Errors
        ///
        /// See [`PutError`]; the value comes back.
        #[doc(alias = "join_thread")]
        #[doc(alias = "cancel_join_thread")]
        pub fn put(&self, value: T) -> Result<(), PutError<T>> {
            match put(self.core(), self.put_end().socket(), Self::WATCHED, &value, Deadline::NEVER) {
                Ok(()) => Ok(()),
                Err(refused) => Err(refused.with(value).unwrap_or_else(PutError::Closed)),
            }
        }

        /// Puts `value` if there is room now. It waits for nobody but another producer in the middle of a put, and not even
        /// for that one when it was stopped there.
        ///
        /// # Errors
        ///
        /// [`Full`](TryPutError::Full) when not, else see [`PutError`]; the value comes back.
        #[doc(alias = "put_nowait")]
        pub fn try_put(&self, value: T) -> Result<(), TryPutError<T>> {
            match put(
                self.core(),
                self.put_end().socket(),
                Self::WATCHED,
                &value,
                Deadline::after(Duration::ZERO),
            ) {
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

        /// As [`put`](Self::put), in a future, under any executor. It costs no thread, and dropped before it is ready it has put
        /// nothing (and drops the value).
        ///
        /// # Errors
        ///
        /// As [`put`](Self::put).
        #[cfg(feature = "async")]
        pub async fn put_async(&self, value: T) -> Result<(), PutError<T>> {
            crate::methods::put_async(self.put_end(), Self::WATCHED, value).await
        }

        /// Puts all of `values`, in order, some dozens under one lock: faster than one by one. Returns how many there were.
        ///
        /// Values of other producers may come between. While it waits for room, what was put before can be got.
        ///
        /// # Errors
        ///
        /// When one cannot be put: see [`PutManyError`](crate::PutManyError), which gives back what is not in the queue. To keep
        /// what was not yet taken from an iterator, pass it by reference.
        pub fn put_many(
            &self,
            values: impl IntoIterator<Item = T>,
        ) -> Result<usize, crate::PutManyError<T, PutError<T>>> {
            crate::batch::put_many(self.core(), self.put_end(), Self::WATCHED, values, Deadline::NEVER)
                .map_err(|stopped| {
                    stopped.into_error(|refused, value| refused.with(value).unwrap_or_else(PutError::Closed))
                })
        }

        /// As [`put_many`](Self::put_many), as many as there is room for now.
        ///
        /// # Errors
        ///
        /// As [`put_many`](Self::put_many), [`Full`](TryPutError::Full) included.
        pub fn try_put_many(
            &self,
            values: impl IntoIterator<Item = T>,
        ) -> Result<usize, crate::PutManyError<T, TryPutError<T>>> {
            let now = Deadline::after(Duration::ZERO);
            let name = |refused: crate::put::Refused, value| {
                refused.with(value).map_or_else(TryPutError::Full, TryPutError::Failed)
            };
            crate::batch::put_many(self.core(), self.put_end(), Self::WATCHED, values, now)
                .map_err(|stopped| stopped.into_error(name))
        }

        /// As [`put_many`](Self::put_many); waits for room at most `timeout` in all.
        ///
        /// # Errors
        ///
        /// As [`put_many`](Self::put_many), [`TimedOut`](PutTimeoutError::TimedOut) included.
        pub fn put_many_timeout(
            &self,
            values: impl IntoIterator<Item = T>,
            timeout: Duration,
        ) -> Result<usize, crate::PutManyError<T, PutTimeoutError<T>>> {
            let name = |refused: crate::put::Refused, value| {
                refused.with(value).map_or_else(PutTimeoutError::TimedOut, PutTimeoutError::Failed)
            };
            let deadline = Deadline::after(timeout);
            crate::batch::put_many(self.core(), self.put_end(), Self::WATCHED, values, deadline)
                .map_err(|stopped| stopped.into_error(name))
        }

        fn put_in_time(&self, value: T, deadline: Deadline) -> Result<(), PutTimeoutError<T>> {
            match put(self.core(), self.put_end().socket(), Self::WATCHED, &value, deadline) {
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
            get(self.core(), self.get_end().socket(), Self::WATCHED, Deadline::NEVER)?.ok_or(GetError::Closed)
        }

        /// Gets the next value if there is one now. It waits for nobody but another consumer in the middle of a get, and not
        /// even for that one when it was stopped there.
        ///
        /// # Errors
        ///
        /// [`Empty`](TryGetError::Empty) when not, else see [`GetError`].
        #[doc(alias = "get_nowait")]
        pub fn try_get(&self) -> Result<T, TryGetError> {
            let now = Deadline::after(Duration::ZERO);
            get(self.core(), self.get_end().socket(), Self::WATCHED, now)?.ok_or(TryGetError::Empty)
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

        /// As [`get`](Self::get), in a future, under any executor. It costs no thread, and dropped before it is ready it has taken
        /// nothing.
        ///
        /// # Errors
        ///
        /// As [`get`](Self::get).
        #[cfg(feature = "async")]
        pub async fn get_async(&self) -> Result<T, GetError> {
            let (value, claimed) = crate::methods::get_async(self.get_end(), Self::WATCHED).await?;
            if let Some(claimed) = claimed {
                self.core().keep(claimed);
            }
            Ok(value)
        }

        /// Gets what is there, up to `most` values, some dozens under one lock: faster than one by one. Waits for the first.
        ///
        /// They are this process's, decoded as they are asked for.
        ///
        /// # Errors
        ///
        /// See [`GetError`], when there is not even one. One that cannot be got is an `Err` among the values.
        ///
        /// # Examples
        ///
        /// ```
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let queue = mp_queue::Queue::new()?;
        /// queue.put_many(0..1000)?;
        /// let some: Vec<i32> = queue.get_many(10)?.collect::<Result<_, _>>()?;
        /// assert_eq!(some, Vec::from_iter(0..10));
        /// assert_eq!(queue.get_many(usize::MAX)?.len(), 990);
        /// # Ok(())
        /// # }
        /// ```
        pub fn get_many(&self, most: usize) -> Result<crate::Batch<T>, GetError> {
            let got = crate::batch::get_many(self.get_end(), Self::WATCHED, most, Deadline::NEVER)?;
            got.ok_or(GetError::Closed)
        }

        /// As [`get_many`](Self::get_many), if there is a value now.
        ///
        /// # Errors
        ///
        /// [`Empty`](TryGetError::Empty) when not, else as [`get_many`](Self::get_many).
        pub fn try_get_many(&self, most: usize) -> Result<crate::Batch<T>, TryGetError> {
            let now = Deadline::after(Duration::ZERO);
            crate::batch::get_many(self.get_end(), Self::WATCHED, most, now)?.ok_or(TryGetError::Empty)
        }

        /// As [`get_many`](Self::get_many); waits for the first at most `timeout`.
        ///
        /// # Errors
        ///
        /// [`TimedOut`](GetTimeoutError::TimedOut) when none came, else as [`get_many`](Self::get_many).
        pub fn get_many_timeout(
            &self,
            most: usize,
            timeout: Duration,
        ) -> Result<crate::Batch<T>, GetTimeoutError> {
            let deadline = Deadline::after(timeout);
            let got = crate::batch::get_many(self.get_end(), Self::WATCHED, most, deadline)?;
            got.ok_or(GetTimeoutError::TimedOut)
        }

        fn get_in_time(&self, deadline: Deadline) -> Result<T, GetTimeoutError> {
            get(self.core(), self.get_end().socket(), Self::WATCHED, deadline)?
                .ok_or(GetTimeoutError::TimedOut)
        }

        /// Gets values until the queue is closed (or, on a [`Receiver`](crate::Receiver), its senders are gone) and drained.
        ///
        /// A value that cannot be got is an `Err`, and the iteration goes on after it.
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
            usize::try_from(self.core().len()).unwrap_or(usize::MAX)
        }

        /// Whether no value is inside. Others may change it at any time.
        #[doc(alias = "empty")]
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.core().len() == 0
        }

        /// Whether a put would have to wait now. Others may change it at any time.
        #[doc(alias = "full")]
        #[must_use]
        pub fn is_full(&self) -> bool {
            self.core().bound().is_some_and(|bound| self.core().len() >= bound)
        }

        /// How many values it holds at most; `None` without a bound.
        #[must_use]
        pub fn bound(&self) -> Option<usize> {
            self.core().bound().and_then(|bound| usize::try_from(bound).ok())
        }

        /// Closes the queue for everybody: nothing gets in any more; what is inside can still be got. Cannot be undone.
        ///
        /// It waits for a producer in the middle of a put, which takes no longer than a copy, unless that one was stopped there:
        /// then for as long as it is. [`close_timeout`](Self::close_timeout) gives up.
        ///
        /// # Errors
        ///
        /// When the queue's memory was damaged.
        #[doc(alias = "shutdown")]
        pub fn close(&self) -> io::Result<()> {
            self.core().close(mp_core::Deadline::NEVER).map(drop)
        }

        /// As [`close`](Self::close); waits at most `timeout`, or 100 ms where that is longer. False when the queue is still open then:
        /// a process was stopped in the middle of a put.
        ///
        /// # Errors
        ///
        /// As [`close`](Self::close).
        pub fn close_timeout(&self, timeout: std::time::Duration) -> io::Result<bool> {
            self.core().close(mp_core::Deadline::after(timeout))
        }

        /// Whether it was closed. Cannot become open again.
        #[must_use]
        pub fn is_closed(&self) -> bool {
            self.core().is_closed()
        }
    };
}

/// What every kind of handle is: a copy of its ends here, and in messages.
macro_rules! handle {
    ($name:ident, $kind:expr, $first:ident $(, $second:ident)?) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> $name<T> {
                $name { $first: self.$first.clone(), $($second: self.$second.clone(),)? values: PhantomData }
            }
        }

        impl<T> std::fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.core().describe(stringify!($name), f)
            }
        }

        impl<T> Serialize for $name<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::end::End::serialize($kind, &[&self.$first $(, &self.$second)?], serializer)
            }
        }

        impl<'de, T> serde::Deserialize<'de> for $name<T> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name<T>, D::Error> {
                let ($first, second) = crate::end::End::deserialize($kind, deserializer)?;
                let _ = &second;
                $(
                    let $second = second
                        .ok_or_else(|| serde::de::Error::custom("a queue without its second end"))?;
                )?
                Ok($name { $first, $($second,)? values: PhantomData })
            }
        }
    };
}

pub(crate) use {getting, handle, looking, putting};
