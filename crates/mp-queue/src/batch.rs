//! Many values at once: one lock for a batch, not one for each.

use crate::claims::Claimed;
use crate::core::Core;
use crate::end::End;
use crate::error::GetError;
use crate::get::Taken;
use crate::methods::decode;
use crate::put::{Encoded, Refused};
use mp_core::Deadline;
use mp_core::wire::{self, Encoding};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::{error, fmt, vec};

/// So many values, or so many bytes, go under one lock: others wait no longer than for a large value.
pub(crate) const MOST: usize = 64;
pub(crate) const MOST_BYTES: usize = 64 << 10;

/// Why not all of many values were put.
pub struct PutManyError<T, E> {
    /// How many were put before.
    pub put: usize,
    /// Why the next one was not; it holds that one.
    pub error: E,
    /// Those after it that had been taken from the iterator, in order.
    pub rest: Vec<T>,
}

impl<T, E: fmt::Debug> fmt::Debug for PutManyError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PutManyError");
        out.field("put", &self.put).field("error", &self.error).field("rest", &self.rest.len()).finish()
    }
}

impl<T, E: fmt::Display> fmt::Display for PutManyError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} values: {}", self.put, self.error)
    }
}

impl<T, E: error::Error> error::Error for PutManyError<T, E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

/// Where a batch stopped: the value that was refused and those behind it.
pub(crate) struct Stopped<T> {
    pub(crate) put: usize,
    pub(crate) refused: Refused,
    pub(crate) value: T,
    pub(crate) rest: Vec<T>,
}

impl<T> Stopped<T> {
    /// As the error that callers see; `name` makes it of what was refused and the value.
    pub(crate) fn into_error<E>(self, name: impl FnOnce(Refused, T) -> E) -> PutManyError<T, E> {
        PutManyError { put: self.put, error: name(self.refused, self.value), rest: self.rest }
    }
}

/// Puts all of `values` in order; how many there were.
pub(crate) fn put_many<T: Serialize + 'static>(
    core: &Core,
    end: &End,
    watched: bool,
    values: impl IntoIterator<Item = T>,
    deadline: Deadline,
) -> Result<usize, Stopped<T>> {
    let mut values = values.into_iter().peekable();
    let (mut bytes, mut scratch, mut done) = (Vec::new(), Vec::new(), 0);
    while values.peek().is_some() {
        let (mut batch, mut encoded, mut failed) = (VecDeque::new(), VecDeque::new(), None);
        bytes.clear();
        while failed.is_none() && batch.len() < MOST && bytes.len() < MOST_BYTES {
            let Some(value) = values.next() else { break };
            match encode(&value, &mut scratch, &mut bytes) {
                Ok(part) => encoded.push_back(part),
                Err(refused) => failed = Some(refused),
            }
            batch.push_back(value);
        }
        let result = core.put_batch(&bytes, &mut encoded, end.socket(), watched, deadline);
        let put = batch.len() - encoded.len() - usize::from(failed.is_some());
        batch.drain(..put);
        done += put;
        if let Some(refused) = result.err().or(failed)
            && let Some(value) = batch.pop_front()
        {
            return Err(Stopped { put: done, refused, value, rest: batch.into() });
        }
    }
    Ok(done)
}

/// Appends the encoded value to `bytes`.
fn encode<T: Serialize + 'static>(
    value: &T,
    scratch: &mut Vec<u8>,
    bytes: &mut Vec<u8>,
) -> Result<Encoded, Refused> {
    let message = wire::encode(value, scratch).map_err(Refused::Encode)?;
    let start = bytes.len();
    bytes.extend_from_slice(message.bytes);
    let (encoding, handles) = (message.encoding, message.handles);
    let count = u16::try_from(handles.len()).map_err(|_| Refused::TooManyHandles)?;
    Ok(Encoded { encoding, bytes: start..bytes.len(), handles, count })
}

/// One value of a batch as it was taken.
#[derive(Debug)]
pub(crate) enum Part {
    Taken { taken: Taken, length: usize },
    Failed(GetError),
}

/// Values that were got together, in order; each is decoded when it is asked for.
///
/// They are this process's: those that are not asked for are lost, or on a [`JoinableQueue`](crate::JoinableQueue) given back.
pub struct Batch<T> {
    core: Arc<Core>,
    bytes: Vec<u8>,
    at: usize,
    parts: vec::IntoIter<Part>,
    values: PhantomData<fn() -> T>,
}

/// Gets up to `most` values; `None` when the time is over before the first.
pub(crate) fn get_many<T: DeserializeOwned + 'static>(
    end: &End,
    watched: bool,
    most: usize,
    deadline: Deadline,
) -> Result<Option<Batch<T>>, GetError> {
    let core = Arc::clone(end.core());
    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
    if most > 0 && !core.get_batch(end.socket(), watched, deadline, most, &mut bytes, &mut parts)? {
        return Ok(None);
    }
    Ok(Some(Batch { core, bytes, at: 0, parts: parts.into_iter(), values: PhantomData }))
}

impl<T: DeserializeOwned + 'static> Iterator for Batch<T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Result<T, GetError>> {
        let (taken, length) = match self.parts.next()? {
            Part::Failed(error) => return Some(Err(error)),
            Part::Taken { taken, length } => (taken, length),
        };
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        // Bytes that are the value are copied into it; others are only read.
        let bytes = if Encoding::of::<T>() == Encoding::POSTCARD {
            Cow::Borrowed(bytes)
        } else {
            Cow::Owned(bytes.to_vec())
        };
        Some(decode(&self.core, taken, bytes).map(|(value, claimed)| {
            if let Some(claimed) = claimed {
                self.core.keep(claimed);
            }
            value
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.parts.size_hint()
    }
}

impl<T: DeserializeOwned + 'static> ExactSizeIterator for Batch<T> {}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        let claims = self.parts.by_ref().filter_map(|part| match part {
            Part::Taken { taken, .. } => taken.claimed,
            Part::Failed(_) => None,
        });
        claims
            .collect::<Vec<Claimed>>()
            .into_iter()
            .for_each(|claimed| _ = self.core.give_claim_back(claimed));
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("left", &self.parts.len()).finish_non_exhaustive()
    }
}
