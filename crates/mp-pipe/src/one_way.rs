//! `pipe_one_way()` and its typed ends.

use crate::error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use crate::half::{Reader, Writer};
use crate::link::{Link, claim};
use crate::packet::{self, Inbox};
use crate::poller::Poller;
use crate::ring::{Direction, Ring, Table};
use crate::travel;
use mp_core::{Deadline, Waitable};
use mp_shm::{Format, Growable, HEADER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

const FORMAT: Format = Format::plain(*b"WAY1", 1);
const FIXED: usize = Table::Short.fixed();
const SENDER: u8 = 0;
const RECEIVER: u8 = 1;

/// Makes a one-way pipe for values of type `T`: the wrong direction does not compile.
///
/// # Errors
///
/// When there is no memory, or no descriptors are left.
///
/// # Examples
///
/// ```
/// let (mut sender, mut receiver) = mp_pipe::pipe_one_way()?;
/// sender.send((1, "one".to_owned()))?;
/// assert_eq!(receiver.recv()?, (1, "one".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0599
/// let (mut sender, mut receiver) = mp_pipe::pipe_one_way::<i32>().unwrap();
/// receiver.send(1);
/// ```
#[doc(alias = "Pipe")]
#[doc(alias = "duplex")]
pub fn pipe_one_way<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let memory = Growable::create(FORMAT, FIXED)?;
    let (left, right) = packet::pair()?;
    let sender = Sender::assemble(memory.clone(), Link::new(left, Inbox::default()));
    Ok((sender, Receiver::assemble(memory, Link::new(right, Inbox::default()))))
}

fn ring(memory: Growable) -> Ring {
    Ring::new(memory, HEADER, Direction::There, Table::Short)
}

/// The sending end of a [`pipe_one_way`]. Passing it to a process, or sending it in a message, moves it there.
pub struct Sender<T> {
    link: Link,
    writer: Writer,
    values: PhantomData<fn(T)>,
}

/// The receiving end of a [`pipe_one_way`]. Passing it to a process, or sending it in a message, moves it there.
///
/// Iterating over it receives until the sender is gone.
pub struct Receiver<T> {
    link: Link,
    reader: Mutex<Reader>,
    poller: OnceLock<Poller>,
    values: PhantomData<fn() -> T>,
}

impl<T> Sender<T> {
    fn assemble(memory: Growable, link: Link) -> Sender<T> {
        let ring = ring(memory);
        claim(ring.writer_lease());
        Sender { link, writer: Writer::new(ring), values: PhantomData }
    }
}

impl<T: Serialize + 'static> Sender<T> {
    /// Sends `value`; waits while the pipe is full. The value is encoded first, and sent whole or not at all.
    ///
    /// When it returns, the message is in the pipe: this process may end, and the receiver still gets it. When the receiver goes
    /// away meanwhile, by whatever death of its process, this fails at once, or when it has waited for 12 ms, and gives the value back.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the value comes back.
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.writer.send(&self.link, &value, Deadline::NEVER) {
            Ok(()) => Ok(()),
            Err(refused) => Err(refused.with(value).unwrap_or_else(SendError::Disconnected)),
        }
    }

    /// Sends `value` if there is room now.
    ///
    /// # Errors
    ///
    /// [`Full`](TrySendError::Full) when not, else see [`SendError`]; the value comes back.
    pub fn try_send(&mut self, value: T) -> Result<(), TrySendError<T>> {
        match self.writer.send(&self.link, &value, Deadline::after(Duration::ZERO)) {
            Ok(()) => Ok(()),
            Err(refused) => Err(refused.with(value).map_or_else(TrySendError::Full, TrySendError::Failed)),
        }
    }

    /// Sends `value`; waits for room at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](SendTimeoutError::TimedOut) when there was none, else see [`SendError`]; the value comes back.
    pub fn send_timeout(&mut self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::after(timeout))
    }

    /// As [`send_timeout`](Sender::send_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Sender::send_timeout).
    pub fn send_deadline(&mut self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_in_time(value, Deadline::at(deadline))
    }

    fn send_in_time(&mut self, value: T, deadline: Deadline) -> Result<(), SendTimeoutError<T>> {
        match self.writer.send(&self.link, &value, deadline) {
            Ok(()) => Ok(()),
            Err(refused) => {
                Err(refused.with(value).map_or_else(SendTimeoutError::TimedOut, SendTimeoutError::Failed))
            }
        }
    }
}

impl<T> Receiver<T> {
    fn assemble(memory: Growable, link: Link) -> Receiver<T> {
        let ring = ring(memory);
        claim(ring.reader_lease());
        Receiver { link, reader: Mutex::new(Reader::new(ring)), poller: OnceLock::new(), values: PhantomData }
    }

    /// Waits at most `timeout` until a receive would not block: a value is there, or the sender is gone. A time-out of
    /// zero looks once.
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

    #[inline]
    fn settle(&mut self) {
        if let Some(poller) = self.poller.get() {
            let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
            // Fails only when reading a bell does; the next operation says why.
            let _ = poller.refresh(&self.link, reader);
        }
    }
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    /// Receives the next value; waits for it.
    ///
    /// What was sent before the sender went away, by whatever death of its process, is received; then this fails with
    /// [`Disconnected`](RecvError::Disconnected): at once, or when it has waited for 12 ms.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        // Without a deadline the wait ends only with a message or an error.
        self.recv_until(Deadline::NEVER)?.ok_or(RecvError::Disconnected)
    }

    /// Receives the next value if there is one now.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) when not, else see [`RecvError`].
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.recv_until(Deadline::after(Duration::ZERO))?.ok_or(TryRecvError::Empty)
    }

    /// Receives the next value; waits for it at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](RecvTimeoutError::TimedOut) when none came, else see [`RecvError`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Deadline::after(timeout))?.ok_or(RecvTimeoutError::TimedOut)
    }

    /// As [`recv_timeout`](Receiver::recv_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Receiver::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Deadline::at(deadline))?.ok_or(RecvTimeoutError::TimedOut)
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<Option<T>, RecvError> {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner);
        let result = reader.recv(&self.link, deadline);
        self.settle();
        result
    }
}

impl<T: DeserializeOwned + 'static> Iterator for Receiver<T> {
    type Item = Result<T, RecvError>;

    /// The next value; `None` once the sender is gone and everything was received.
    fn next(&mut self) -> Option<Result<T, RecvError>> {
        match self.recv() {
            Err(RecvError::Disconnected) => None,
            other => Some(other),
        }
    }
}

impl<T> Waitable for Receiver<T> {
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

impl<T> AsFd for Receiver<T> {
    /// Readable whenever a receive would not block, and now and then for nothing.
    ///
    /// # Panics
    ///
    /// When no descriptors are left on the first call: [`Waitable::wait_fd`] is the form with an error.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait_fd().expect("two descriptors for polling a pipe")
    }
}

impl<T> AsRawFd for Receiver<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("sent_not_received", &self.writer.ring.len()).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        travel::depart(serializer, &self.link, self.writer.ring.memory(), SENDER)
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let memory = self.reader.lock().unwrap_or_else(PoisonError::into_inner).ring.memory().clone();
        travel::depart(serializer, &self.link, &memory, RECEIVER)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sender<T>, D::Error> {
        let arrival = travel::arrive(deserializer, FORMAT, FIXED)?;
        match arrival.side {
            SENDER => Ok(Sender::assemble(arrival.memory, arrival.link)),
            _ => {
                Err(de::Error::custom("the receiving end of a pipe came where the sending end was expected"))
            }
        }
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        let arrival = travel::arrive(deserializer, FORMAT, FIXED)?;
        match arrival.side {
            RECEIVER => Ok(Receiver::assemble(arrival.memory, arrival.link)),
            _ => {
                Err(de::Error::custom("the sending end of a pipe came where the receiving end was expected"))
            }
        }
    }
}
