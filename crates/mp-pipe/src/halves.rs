//! The two halves of a connection, for two threads of one process.

use crate::Connection;
use crate::connection::Side;
use crate::error::{
    RecvBytesIntoError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use crate::half::{Reader, Refused, Writer};
use crate::link::Link;
use crate::poller::Poller;
use mp_core::{Deadline, Waitable};
use serde::{Serialize, de::DeserializeOwned};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{error, fmt, io};

/// The sending half of a [`Connection`] that was [split](Connection::split).
///
/// Dropping it tells the other end that nothing more comes: what was sent is received, then
/// [`Disconnected`](RecvError::Disconnected). The receiving half lives on.
pub struct SendHalf {
    pub(crate) link: Link,
    pub(crate) side: Side,
    /// Gone once the halves are one again.
    pub(crate) writer: Option<Writer>,
}

/// The receiving half of a [`Connection`] that was [split](Connection::split).
///
/// Dropping it tells the other end that nothing more is received there: its sends fail, within some tens of microseconds, with
/// [`Disconnected`](SendError::Disconnected). The sending half lives on.
pub struct RecvHalf {
    pub(crate) link: Link,
    /// Gone once the halves are one again.
    pub(crate) reader: Mutex<Option<Reader>>,
    pub(crate) poller: OnceLock<Poller>,
}

/// A connection could not be split, since no descriptors were left; it comes back.
#[derive(Debug)]
pub struct SplitError(pub(crate) Box<Connection>, pub(crate) io::Error);

impl SplitError {
    /// The connection, as it was.
    #[must_use]
    pub fn into_inner(self) -> Connection {
        *self.0
    }
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "split a connection: {}", self.1)
    }
}

impl error::Error for SplitError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.1)
    }
}

/// Two halves that are not of one connection; they come back.
#[derive(Debug)]
pub struct ReuniteError(pub(crate) Box<(SendHalf, RecvHalf)>);

impl ReuniteError {
    /// The two halves, as they were.
    #[must_use]
    pub fn into_inner(self) -> (SendHalf, RecvHalf) {
        *self.0
    }
}

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves are not of one connection")
    }
}

impl error::Error for ReuniteError {}

impl SendHalf {
    /// As [`Connection::send`].
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the value comes back.
    pub fn send<T: Serialize + 'static>(&mut self, value: T) -> Result<(), SendError<T>> {
        let sent = self.send_until(&value, Deadline::NEVER);
        sent.map_err(|refused| refused.with(value).unwrap_or_else(SendError::Disconnected))
    }

    /// As [`Connection::try_send`].
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) when there is no room, else see [`SendError`]; the value comes back.
    pub fn try_send<T: Serialize + 'static>(&mut self, value: T) -> Result<(), TrySendError<T>> {
        let sent = self.send_until(&value, Deadline::after(Duration::ZERO));
        sent.map_err(|refused| refused.with(value).map_or_else(TrySendError::Full, TrySendError::Failed))
    }

    /// As [`Connection::send_timeout`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`](SendTimeoutError::TimedOut) when there was no room, else see [`SendError`]; the value comes back.
    pub fn send_timeout<T: Serialize + 'static>(
        &mut self,
        value: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::after(timeout))
    }

    /// As [`Connection::send_deadline`].
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](SendHalf::send_timeout).
    pub fn send_deadline<T: Serialize + 'static>(
        &mut self,
        value: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::at(deadline))
    }

    /// As [`Connection::send_bytes`].
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError<()>> {
        let sent = match &mut self.writer {
            Some(writer) => writer.send_bytes(&self.link, bytes),
            None => Err(Refused::Disconnected),
        };
        sent.map_err(|refused| refused.with(()).unwrap_or_else(SendError::Disconnected))
    }

    /// The connection again, of both halves.
    ///
    /// # Errors
    ///
    /// When they are not of one connection; both come back.
    pub fn reunite(self, other: RecvHalf) -> Result<Connection, ReuniteError> {
        Connection::of_halves(self, other)
    }

    fn send_in_time<T: Serialize + 'static>(
        &mut self,
        value: T,
        deadline: Deadline,
    ) -> Result<(), SendTimeoutError<T>> {
        let sent = self.send_until(&value, deadline);
        sent.map_err(|refused| {
            refused.with(value).map_or_else(SendTimeoutError::TimedOut, SendTimeoutError::Failed)
        })
    }

    fn send_until<T: Serialize + 'static>(&mut self, value: &T, deadline: Deadline) -> Result<(), Refused> {
        match &mut self.writer {
            Some(writer) => writer.send(&self.link, value, deadline),
            None => Err(Refused::Disconnected),
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.leave(&self.link);
        }
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf").finish_non_exhaustive()
    }
}

impl RecvHalf {
    /// As [`Connection::recv`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv<T: DeserializeOwned + 'static>(&mut self) -> Result<T, RecvError> {
        // Without a deadline the wait ends only with a message or an error.
        self.recv_until(Deadline::NEVER)?.ok_or(RecvError::Disconnected)
    }

    /// As [`Connection::try_recv`].
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) when there is none now, else see [`RecvError`].
    pub fn try_recv<T: DeserializeOwned + 'static>(&mut self) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::after(Duration::ZERO))?.ok_or(TryRecvError::Empty)
    }

    /// As [`Connection::recv_timeout`].
    ///
    /// # Errors
    ///
    /// [`TimedOut`](RecvTimeoutError::TimedOut) when none came, else see [`RecvError`].
    pub fn recv_timeout<T: DeserializeOwned + 'static>(
        &mut self,
        timeout: Duration,
    ) -> Result<T, RecvTimeoutError> {
        self.recv_until(Deadline::after(timeout))?.ok_or(RecvTimeoutError::TimedOut)
    }

    /// As [`Connection::recv_deadline`].
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](RecvHalf::recv_timeout).
    pub fn recv_deadline<T: DeserializeOwned + 'static>(
        &mut self,
        deadline: Instant,
    ) -> Result<T, RecvTimeoutError> {
        self.recv_until(Deadline::at(deadline))?.ok_or(RecvTimeoutError::TimedOut)
    }

    /// As [`Connection::recv_bytes`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv()
    }

    /// As [`Connection::recv_bytes_into`].
    ///
    /// # Errors
    ///
    /// As [`Connection::recv_bytes_into`].
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvBytesIntoError> {
        let received = self.with_reader(|reader, link| reader.recv_into(link, buffer));
        received?.map_err(RecvBytesIntoError::TooShort)
    }

    /// As [`Connection::poll`].
    ///
    /// # Errors
    ///
    /// [`Moved`](RecvError::Moved), [`InUse`](RecvError::InUse), or what the system says.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        let deadline = Deadline::after(timeout);
        self.with_reader(|reader, link| reader.poll(link, deadline))
    }

    fn recv_until<T: DeserializeOwned + 'static>(
        &mut self,
        deadline: Deadline,
    ) -> Result<Option<T>, RecvError> {
        self.with_reader(|reader, link| reader.recv(link, deadline))
    }

    /// Whoever polls the descriptor from outside is told of what is left after each operation.
    fn with_reader<R>(
        &mut self,
        operation: impl FnOnce(&mut Reader, &Link) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(reader) = reader else { return Err(RecvError::Disconnected) };
        let result = operation(reader, &self.link);
        if let Some(poller) = self.poller.get() {
            // Fails only when reading a bell does; the next operation says why.
            let _ = poller.refresh(&self.link, reader);
        }
        result
    }
}

impl Waitable for RecvHalf {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Poller::fd(&self.poller, &self.link, reader)
    }

    fn is_ready(&self) -> io::Result<bool> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if !reader.is_ours(&self.link) || reader.has_message() || reader.is_over(&self.link) {
            return Ok(true);
        }
        if let Some(poller) = self.poller.get() {
            poller.refresh(&self.link, reader)?;
        }
        Ok(reader.has_message())
    }
}

impl AsFd for RecvHalf {
    /// Readable whenever a receive would not block, and now and then for nothing.
    ///
    /// # Panics
    ///
    /// When no descriptors are left on the first call: [`Waitable::wait_fd`] is the form with an error.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait_fd().expect("two descriptors for polling a pipe")
    }
}

impl AsRawFd for RecvHalf {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner) {
            reader.leave(&self.link);
        }
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvHalf").finish_non_exhaustive()
    }
}
