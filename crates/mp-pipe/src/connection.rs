//! `pipe()` and its two-way ends.

use crate::error::{
    RecvBytesIntoError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use crate::half::{Reader, Refused, Writer};
use crate::halves::{RecvHalf, ReuniteError, SendHalf, SplitError};
use crate::link::{Link, claim};
use crate::packet::{self, Inbox};
use crate::poller::Poller;
use crate::ring::{Direction, Ring, Table};
use crate::travel;
use mp_core::{Deadline, Waitable};
use mp_shm::{Format, Growable, HEADER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

const FORMAT: Format = Format::plain(*b"PIPE", 1);
const FIXED: usize = 2 * Table::Short.fixed();

/// Makes a two-way pipe: what is sent at one end is received at the other.
///
/// Keep one end and pass the other to a process. Memory: about 200 KiB once both directions have been used; it grows for large
/// messages and shrinks again, in each direction to 256 KiB at most. A message of more than 4 MiB has memory of its own, two at a time, which the
/// next ones take over; a receiver that has waited in vain for a tenth of a second gives it back. One that waits in a future, or polls the
/// descriptor, does not: there up to 64 MiB, and the last message's own, stay until the next large message or the end of the pipe.
///
/// # Errors
///
/// When there is no memory, or no descriptors are left.
///
/// # Examples
///
/// ```
/// let (mut left, mut right) = mp_pipe::pipe()?;
/// left.send("question".to_owned())?;
/// assert_eq!(right.recv::<String>()?, "question");
/// right.send(42)?;
/// assert_eq!(left.recv::<i32>()?, 42);
/// drop(right);
/// assert!(left.recv::<i32>().unwrap_err().is_disconnected());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Pipe")]
#[doc(alias = "duplex")]
pub fn pipe() -> io::Result<(Connection, Connection)> {
    let memory = Growable::create(FORMAT, FIXED)?;
    let (left, right) = packet::pair()?;
    let end = |socket, side| Connection::assemble(memory.clone(), Link::new(socket, Inbox::default()), side);
    Ok((end(left, Side::Left), end(right, Side::Right)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// One end of a two-way [`pipe`].
///
/// Messages are whole and in order. An end has one user: passing it to a process, or sending it in a message, moves it there, and
/// the handle that stays answers [`Moved`](SendError::Moved). When the other end is gone (dropped, or its process died in whatever
/// way), receiving gives what was sent before and then [`Disconnected`](RecvError::Disconnected); sending fails
/// with the value given back.
///
/// Each message has its own type: `send` a `String`, `recv::<String>()`. Receiving another type than was sent is an error or,
/// where the bytes happen to fit, a wrong value: agree on one type, an enum for instance.
///
/// Its [`AsFd`] descriptor is readable whenever a receive would not block; it may also be readable for nothing. Poll it, then
/// [`try_recv`](Connection::try_recv) until that says empty.
pub struct Connection {
    link: Link,
    side: Side,
    writer: Writer,
    /// Behind a lock for [`Waitable::is_ready`] alone; all else has the end to itself.
    reader: Mutex<Reader>,
    poller: OnceLock<Poller>,
}

impl Connection {
    fn assemble(memory: Growable, link: Link, side: Side) -> Connection {
        let there = Ring::new(memory.clone(), HEADER, Direction::There, Table::Short);
        let back = Ring::new(memory, HEADER + Table::Short.fixed(), Direction::Back, Table::Short);
        let (out, back) = if side == Side::Left { (there, back) } else { (back, there) };
        claim(out.writer_lease());
        claim(back.reader_lease());
        let (writer, reader) = (Writer::new(out), Mutex::new(Reader::new(back)));
        Connection { link, side, writer, reader, poller: OnceLock::new() }
    }

    /// Sends `value`; waits while the pipe is full. The value is encoded first, and sent whole or not at all.
    ///
    /// When it returns, the message is in the pipe: this process may end, and the other side still receives it. When the other end
    /// goes away meanwhile, by whatever death of its process, this fails at once, or when it has waited for 12 ms, and gives the value back; in a burst, which asks the
    /// system every few tens of microseconds only, up to that many microseconds and three messages later, but never after a `join` has
    /// returned, or any end in this process has seen a hang-up. A process that is killed in
    /// here has sent the message whole, or not.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the value comes back.
    pub fn send<T: Serialize + 'static>(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.send_until(&value, Deadline::NEVER) {
            Ok(()) => Ok(()),
            Err(refused) => Err(refused.with(value).unwrap_or_else(SendError::Disconnected)),
        }
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) when not, else see [`SendError`]; the value comes back.
    pub fn try_send<T: Serialize + 'static>(&mut self, value: T) -> Result<(), TrySendError<T>> {
        match self.send_until(&value, Deadline::after(Duration::ZERO)) {
            Ok(()) => Ok(()),
            Err(refused) => Err(refused.with(value).map_or_else(TrySendError::Full, TrySendError::Failed)),
        }
    }

    /// Sends `value`; waits for room at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](SendTimeoutError::TimedOut) when there was none, else see [`SendError`]; the value comes back.
    pub fn send_timeout<T: Serialize + 'static>(
        &mut self,
        value: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::after(timeout))
    }

    /// As [`send_timeout`](Connection::send_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Connection::send_timeout).
    pub fn send_deadline<T: Serialize + 'static>(
        &mut self,
        value: T,
        deadline: Instant,
    ) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::at(deadline))
    }

    fn send_in_time<T: Serialize + 'static>(
        &mut self,
        value: T,
        deadline: Deadline,
    ) -> Result<(), SendTimeoutError<T>> {
        match self.send_until(&value, deadline) {
            Ok(()) => Ok(()),
            Err(refused) => {
                Err(refused.with(value).map_or_else(SendTimeoutError::TimedOut, SendTimeoutError::Failed))
            }
        }
    }

    #[inline]
    fn send_until<T: Serialize + 'static>(&mut self, value: &T, deadline: Deadline) -> Result<(), Refused> {
        let result = self.writer.send(&self.link, value, deadline);
        self.settle();
        result
    }

    /// Sends `bytes`, waiting as [`send`](Connection::send) does, which the other end gets by [`recv_bytes`](Connection::recv_bytes) or as a `Vec<u8>`.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError<()>> {
        let result = self.writer.send_bytes(&self.link, bytes);
        self.settle();
        result.map_err(|refused| refused.with(()).unwrap_or_else(SendError::Disconnected))
    }

    /// Receives the next message; waits for it.
    ///
    /// What the other end sent before it went away, by whatever death of its process, is received; then this fails with
    /// [`Disconnected`](RecvError::Disconnected): at once, or when it has waited for 12 ms. A process that is killed in here has taken the message, or left it where it was.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv<T: DeserializeOwned + 'static>(&mut self) -> Result<T, RecvError> {
        // Without a deadline the wait ends only with a message or an error.
        self.recv_until(Deadline::NEVER)?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next message if there is one now.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) when not, else see [`RecvError`].
    pub fn try_recv<T: DeserializeOwned + 'static>(&mut self) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::after(Duration::ZERO))?.ok_or(TryRecvError::Empty)
    }

    /// Receives the next message; waits for it at most `timeout`.
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

    /// As [`recv_timeout`](Connection::recv_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Connection::recv_timeout).
    pub fn recv_deadline<T: DeserializeOwned + 'static>(
        &mut self,
        deadline: Instant,
    ) -> Result<T, RecvTimeoutError> {
        self.recv_until(Deadline::at(deadline))?.ok_or(RecvTimeoutError::TimedOut)
    }

    #[inline]
    fn recv_until<T: DeserializeOwned + 'static>(
        &mut self,
        deadline: Deadline,
    ) -> Result<Option<T>, RecvError> {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let result = reader.recv(&self.link, deadline);
        self.settle();
        result
    }

    /// Receives the next message as bytes: what [`send_bytes`](Connection::send_bytes) sent, or a `Vec<u8>`.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv()
    }

    /// As [`recv_bytes`](Connection::recv_bytes), into the front of `buffer`: no memory is allocated for the message, which is
    /// copied once. Returns its length; what `buffer` holds behind it stays as it was.
    ///
    /// # Errors
    ///
    /// [`TooShort`](RecvBytesIntoError::TooShort) with the whole message when `buffer` is too small for it, else see
    /// [`RecvError`].
    #[doc(alias = "BufferTooShort")]
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvBytesIntoError> {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = reader.look(&self.link)
            && let Some(out) = buffer.get_mut(..head.length)
            && reader.take_plain_into(&self.link, &head, out)
        {
            self.settle();
            return Ok(head.length);
        }
        let result = reader.recv_into(&self.link, buffer);
        self.settle();
        result?.map_err(RecvBytesIntoError::TooShort)
    }

    /// Waits at most `timeout` until a receive would not block: a message is there, or the other end is gone. A
    /// time-out of zero looks once.
    ///
    /// # Errors
    ///
    /// [`Moved`](RecvError::Moved), [`InUse`](RecvError::InUse), or what the system says.
    pub fn poll(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let result = reader.poll(&self.link, Deadline::after(timeout));
        self.settle();
        result
    }

    /// After each operation: whoever polls the descriptor from outside is told of what is left.
    #[inline]
    fn settle(&mut self) {
        if let Some(poller) = self.poller.get() {
            let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
            // Fails only when reading a bell does; the next operation says why.
            let _ = poller.refresh(&self.link, reader);
        }
    }
}

/// Splitting.
impl Connection {
    /// Splits the end for two threads of this process: one sends, the other receives, and neither waits for the other.
    ///
    /// The halves stay in this process. To give the directions of a pipe to two processes, make two [one-way](crate::pipe_one_way())
    /// pipes: then the death of each is news by itself. Once both halves are gone, or this process is, the other end sees that as ever; a
    /// half that is dropped before is told there too.
    ///
    /// ```
    /// let (left, mut right) = mp_pipe::pipe()?;
    /// let (mut sending, mut receiving) = left.split()?;
    /// let echo = std::thread::spawn(move || right.recv::<u8>().map(|byte| right.send(byte)));
    /// let receiver = std::thread::spawn(move || receiving.recv::<u8>());
    /// sending.send(7_u8)?;
    /// assert_eq!(receiver.join().unwrap()?, 7);
    /// # let _ = echo.join();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When no descriptors are left; the connection comes back.
    pub fn split(self) -> Result<(SendHalf, RecvHalf), SplitError> {
        let (sending, receiving) = match self.link.halves() {
            Ok(halves) => halves,
            Err(error) => return Err(SplitError(Box::new(self), error)),
        };
        let reader = self.reader.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sending = SendHalf { link: sending, side: self.side, writer: Some(self.writer) };
        Ok((sending, RecvHalf { link: receiving, reader: Mutex::new(Some(reader)), poller: self.poller }))
    }

    pub(crate) fn of_halves(mut one: SendHalf, mut other: RecvHalf) -> Result<Connection, ReuniteError> {
        if !one.link.is_of_same_end(&other.link) {
            return Err(ReuniteError(Box::new((one, other))));
        }
        let reader = other.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (Some(writer), Some(reader)) = (one.writer.take(), reader.take()) else {
            return Err(ReuniteError(Box::new((one, other))));
        };
        let poller = std::mem::take(&mut other.poller);
        Ok(Connection { link: one.link.whole(), side: one.side, writer, reader: Mutex::new(reader), poller })
    }
}

impl Waitable for Connection {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Poller::fd(&self.poller, &self.link, &mut reader)
    }

    fn is_ready(&self) -> io::Result<bool> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if !reader.is_ours(&self.link) || reader.has_message() || reader.is_over(&self.link) {
            return Ok(true);
        }
        if let Some(poller) = self.poller.get() {
            poller.refresh(&self.link, &mut reader)?;
        }
        Ok(reader.has_message())
    }
}

impl AsFd for Connection {
    /// Readable whenever a receive would not block, and now and then for nothing.
    ///
    /// # Panics
    ///
    /// When no descriptors are left on the first call: [`Waitable::wait_fd`] is the form with an error.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait_fd().expect("two descriptors for polling a pipe")
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent_not_received = self.writer.ring.len();
        f.debug_struct("Connection").field("sent_not_received", &sent_not_received).finish_non_exhaustive()
    }
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        travel::depart(serializer, &self.link, self.writer.ring.memory(), u8::from(self.side == Side::Right))
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Connection, D::Error> {
        let arrival = travel::arrive(deserializer, FORMAT, FIXED)?;
        let side = match arrival.side {
            0 => Side::Left,
            1 => Side::Right,
            _ => return Err(de::Error::custom("a pipe has two ends")),
        };
        Ok(Connection::assemble(arrival.memory, arrival.link, side))
    }
}
