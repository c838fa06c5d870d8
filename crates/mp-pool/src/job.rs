//! A job: what is sent to a worker as one, and where each of its items reports.

use crate::error::TaskError;
use mp_core::handle::Handles;
use mp_core::wire::Message;
use mp_core::{EncodeError, Encoding, wire};
use mp_process::routine::Routine;
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{fmt, io};

/// A result as it came from the worker; decoded where it is awaited, so that users' code cannot hurt the pool's owner.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<OwnedFd>,
}

/// Takes the one result of an item. Must not block, must not run users' code, must not panic.
pub(crate) trait Sink: Send {
    fn settle(self: Box<Self>, result: Result<Raw, TaskError>);
}

/// The duty to settle one item: done by [`settle`](Receipt::settle), or, whatever happens, when it is dropped. So every item
/// is settled exactly once.
pub(crate) struct Receipt(Option<Box<dyn Sink>>);

impl Receipt {
    pub(crate) fn new(sink: impl Sink + 'static) -> Receipt {
        Receipt(Some(Box::new(sink)))
    }

    pub(crate) fn settle(mut self, result: Result<Raw, TaskError>) {
        if let Some(sink) = self.0.take() {
            sink.settle(result);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(sink) = self.0.take() {
            sink.settle(Err(TaskError::Cancelled));
        }
    }
}

/// Encoded arguments, and where the result goes. Kept by the pool until it is settled.
pub(crate) struct Item {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Vec<u8>,
    pub(crate) handles: Vec<Arc<OwnedFd>>,
    /// Ends that move with the arguments: they are here until the item is sent for the first time.
    departing: Option<Handles>,
    pub(crate) receipt: Receipt,
}

impl Item {
    /// Encodes `args`; gives the receipt back with the error.
    pub(crate) fn new<T: Serialize + 'static>(
        args: &T,
        receipt: Receipt,
    ) -> Result<Item, (EncodeError, Receipt)> {
        let mut scratch = Vec::new();
        let Message { encoding, bytes, handles } = match wire::encode(args, &mut scratch) {
            Ok(message) => message,
            Err(error) => return Err((error, receipt)),
        };
        // Other encodings leave the bytes in the value.
        let own = (encoding != Encoding::POSTCARD).then(|| bytes.to_vec());
        let shared = handles.shared();
        let departing = (!handles.is_empty()).then_some(handles);
        Ok(Item { encoding, bytes: own.unwrap_or(scratch), handles: shared, departing, receipt })
    }

    /// It is at a worker: ends in its arguments have left this process.
    pub(crate) fn sent(&mut self) {
        if let Some(departing) = self.departing.take() {
            departing.sent();
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Says for several jobs that nobody wants their results any more.
pub(crate) type Unwanted = Arc<AtomicBool>;

/// Items for one function, run by one worker in order.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) routine: Routine,
    pub(crate) timeout: Option<Duration>,
    pub(crate) unwanted: Option<Unwanted>,
    /// In the order in which they run.
    pub(crate) items: VecDeque<Item>,
}

impl Job {
    pub(crate) fn is_unwanted(&self) -> bool {
        self.unwanted.as_ref().is_some_and(|unwanted| unwanted.load(Relaxed))
    }

    /// A job of its own with the items from number `at` on, if there are any.
    pub(crate) fn split_off(&mut self, at: usize) -> Option<Job> {
        let items = self.items.split_off(at.min(self.items.len()));
        (!items.is_empty()).then(|| Job {
            routine: self.routine.clone(),
            timeout: self.timeout,
            unwanted: self.unwanted.clone(),
            items,
        })
    }

    /// It can be sent to nobody: its first item gets the error, and the others the text of it.
    pub(crate) fn fail(self, error: TaskError) {
        let text = error.to_string();
        let mut error = Some(error);
        for item in self.items {
            let error = error.take().unwrap_or_else(|| TaskError::Io(io::Error::other(text.clone())));
            item.receipt.settle(Err(error));
        }
    }

    /// The record's bytes: where it stands in the worker's control block, the function, and the arguments of each item.
    pub(crate) fn encode(&self, entry: usize, generation: u16, out: &mut Vec<u8>) -> Result<(), TaskError> {
        out.clear();
        let mut scratch = Vec::new();
        let routine = wire::encode(&self.routine, &mut scratch).map_err(TaskError::Encode)?;
        out.extend([entry.to_le_bytes()[0], 0]); // below 64
        out.extend(generation.to_ne_bytes());
        out.extend(length(self.items.len())?);
        out.extend(length(routine.bytes.len())?);
        out.extend(routine.bytes);
        for item in &self.items {
            let handles = u16::try_from(item.handles.len()).map_err(|_| too_long())?;
            out.extend([item.encoding.0, 0]);
            out.extend(handles.to_ne_bytes());
            out.extend(length(item.bytes.len())?);
            out.extend(&item.bytes);
        }
        Ok(())
    }
}

fn length(length: usize) -> Result<[u8; 4], TaskError> {
    u32::try_from(length).map(u32::to_ne_bytes).map_err(|_| too_long())
}

fn too_long() -> TaskError {
    TaskError::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        "arguments of 4 GiB or more; share memory instead",
    ))
}

/// A job as the worker reads it.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) entry: u8,
    pub(crate) generation: u16,
    pub(crate) count: u32,
    pub(crate) routine: &'a [u8],
    rest: &'a [u8],
}

/// One item's arguments.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) handles: u16,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Received<'a> {
    /// `None` for bytes that are no job: then the line is broken.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Received<'a>> {
        let ([entry, _, g0, g1], rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (routine, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        let generation = u16::from_ne_bytes([*g0, *g1]);
        Some(Received { entry: *entry, generation, count: u32::from_ne_bytes(*count), routine, rest })
    }

    /// The next item's arguments.
    pub(crate) fn next_args(&mut self) -> Option<Args<'a>> {
        let ([encoding, _, h0, h1], rest) = self.rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        self.rest = rest;
        Some(Args { encoding: Encoding(*encoding), handles: u16::from_ne_bytes([*h0, *h1]), bytes })
    }
}

/// How an item ended, in a record's kind; its bytes follow a head of one encoding byte and seven more.
pub(crate) mod kind {
    pub(crate) const JOB: u8 = 1;
    pub(crate) const RETURNED: u8 = 2;
    pub(crate) const PANICKED: u8 = 3;
    pub(crate) const ARGUMENTS: u8 = 4;
    pub(crate) const UNENCODABLE: u8 = 5;
    pub(crate) const UNKNOWN: u8 = 6;
    /// The worker is ready: the initializer has run.
    pub(crate) const READY: u8 = 7;
    /// The initializer failed; the bytes are a text without a head.
    pub(crate) const BROKEN: u8 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_jobs_are_refused() {
        let mut bytes = vec![3, 0, 7, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9, 9, 1, 0, 0, 0, 1, 0, 0, 0, 5];
        let mut job = Received::parse(&bytes).unwrap();
        assert_eq!((job.entry, job.generation, job.count, job.routine), (3, 7, 1, [9, 9].as_slice()));
        assert_eq!(job.next_args().unwrap().bytes, [5]);
        assert!(job.next_args().is_none());
        bytes.pop();
        assert!(Received::parse(&bytes).unwrap().next_args().is_none());
        assert!(Received::parse(&bytes[..10]).is_none());
    }
}
