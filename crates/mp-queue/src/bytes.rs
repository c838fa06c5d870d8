//! Bytes that need not be a `Vec` on either side.

use crate::core::Core;
use crate::error::{GetBytesIntoError, GetError, PutError};
use crate::get::Front;
use crate::joinable::JoinableQueue;
use crate::methods::put_bytes;
use crate::queue::Queue;
use crate::split::{Receiver, Sender};
use mp_core::wire::{self, Encoding};
use mp_core::{Deadline, DecodeError, Handle};
use std::borrow::Cow;

/// See `get_bytes_into` below.
#[inline]
fn get_into(
    core: &Core,
    socket: &Handle,
    watched: bool,
    buffer: &mut [u8],
) -> Result<usize, GetBytesIntoError> {
    let mut front = Front::of(buffer);
    if let Some(encoding) = core.get_plain(&mut front) {
        are_bytes(encoding).map_err(GetError::Decode)?;
        return front.finish().map_err(GetBytesIntoError::TooShort);
    }
    // Without a deadline the wait ends only with a value or an error.
    let taken = core.get(socket, watched, Deadline::NEVER, &mut front)?.ok_or(GetError::Closed)?;
    if let Err(error) = are_bytes(taken.encoding) {
        core.lose(taken.claimed);
        return Err(GetError::Decode(error).into());
    }
    if let Some(claimed) = taken.claimed {
        core.keep(claimed);
    }
    front.finish().map_err(GetBytesIntoError::TooShort)
}

#[inline(always)]
fn are_bytes(encoding: Encoding) -> Result<(), DecodeError> {
    if encoding == Encoding::BYTES { Ok(()) } else { are_no_bytes(encoding) }
}

/// The error that decoding gives.
#[cold]
fn are_no_bytes(encoding: Encoding) -> Result<(), DecodeError> {
    wire::decode::<Vec<u8>>(encoding, Cow::Borrowed(&[]), Vec::new()).map(drop)
}

macro_rules! put_bytes {
    ($name:ident) => {
        impl $name<Vec<u8>> {
            /// As [`put`](Self::put), of a copy of `bytes`: who gets it sees a `Vec<u8>`, and none is needed here.
            ///
            /// # Errors
            ///
            /// See [`PutError`]; there is nothing to be given back.
            pub fn put_bytes(&self, bytes: &[u8]) -> Result<(), PutError<()>> {
                let (end, never) = (self.put_end(), Deadline::NEVER);
                put_bytes(end.core(), end.socket(), Self::WATCHED, Encoding::BYTES, bytes, never)
                    .map_err(|refused| refused.with(()).unwrap_or_else(PutError::Closed))
            }
        }
    };
}

macro_rules! get_bytes_into {
    ($name:ident) => {
        impl $name<Vec<u8>> {
            /// As [`get`](Self::get), into the front of `buffer`: no memory is allocated for the value, which is copied once. Returns its
            /// length; what `buffer` holds behind it stays as it was.
            ///
            /// Memory that is used again and again costs nothing but the copy; new memory for a large value costs several. (What a
            /// [`JoinableQueue`](crate::JoinableQueue) hands out again, or copies for that, is copied once more.) On a queue that can be joined the value is this
            /// process's to call done, also when it was too long.
            ///
            /// # Errors
            ///
            /// [`TooShort`](GetBytesIntoError::TooShort) with the whole value when `buffer` is too small for it, else see [`GetError`].
            ///
            /// # Examples
            ///
            /// ```
            /// use mp_queue::{GetBytesIntoError, Queue};
            ///
            /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
            /// let queue: Queue<Vec<u8>> = Queue::new()?;
            /// queue.put_bytes(b"some bytes")?;
            /// queue.put_bytes(b"more than the buffer holds")?;
            ///
            /// let mut buffer = [0; 16];
            /// let length = queue.get_bytes_into(&mut buffer)?;
            /// assert_eq!(&buffer[..length], b"some bytes");
            /// match queue.get_bytes_into(&mut buffer) {
            ///     Err(GetBytesIntoError::TooShort(value)) => assert_eq!(value, b"more than the buffer holds"),
            ///     other => panic!("{other:?}"),
            /// }
            /// # Ok(())
            /// # }
            /// ```
            #[doc(alias = "BufferTooShort")]
            pub fn get_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, GetBytesIntoError> {
                let end = self.get_end();
                get_into(end.core(), end.socket(), Self::WATCHED, buffer)
            }
        }
    };
}

put_bytes!(Queue);
put_bytes!(Sender);
put_bytes!(JoinableQueue);
get_bytes_into!(Queue);
get_bytes_into!(Receiver);
get_bytes_into!(JoinableQueue);
