//! The result of a task that runs elsewhere.

use crate::error::TaskError;
use crate::inbox::Shared;
use crate::job::{AtomicWish, Raw, Sink, Wish};
use crate::pack::{Piece, Pieces};
use crate::wakers;
use mp_core::{Deadline, DecodeError, wire};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What a slot holds in the end: the result of one task, or of each item of a map.
#[derive(Debug)]
pub(crate) enum Payload {
    One(Raw),
    Many(Pieces),
}

/// Where one result comes in.
pub(crate) struct Slot {
    state: Mutex<State>,
    /// What threads wait on, once one does; looked at while `state` is locked.
    sleepers: OnceLock<Arc<Condvar>>,
    /// As the state says, to be looked at without it.
    ready: AtomicBool,
    wish: AtomicWish,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Pending,
    /// Somebody is to be told when it is done.
    Awaited(Waker),
    /// Nobody will ask.
    Detached,
    Done(Box<Result<Payload, TaskError>>),
    Taken,
}

impl State {
    fn is_pending(&self) -> bool {
        matches!(self, State::Pending | State::Awaited(_))
    }
}

impl Slot {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Slot> {
        Arc::new(Slot {
            state: Mutex::default(),
            sleepers: OnceLock::new(),
            ready: AtomicBool::new(false),
            wish: AtomicWish::default(),
            shared,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result is there.
    pub(crate) fn fill(&self, result: Result<Payload, TaskError>) {
        let mut state = self.state();
        let before = match &*state {
            State::Pending | State::Awaited(_) => {
                std::mem::replace(&mut *state, State::Done(Box::new(result)))
            }
            State::Detached => {
                drop(state);
                if let Err(error) = result {
                    self.shared.unread(&error);
                }
                return;
            }
            State::Done(_) | State::Taken => return,
        };
        self.ready.store(true, Release);
        let sleepers = self.sleepers.get();
        drop(state);
        // The system is called only when somebody waits.
        if let Some(sleepers) = sleepers {
            wakers::notify(sleepers);
        }
        if let State::Awaited(waker) = before {
            wakers::wake(waker);
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Acquire)
    }

    /// Waits until the result is there; false when the time is over first.
    fn wait(&self, deadline: Deadline) -> bool {
        if self.is_ready() {
            return true;
        }
        if deadline.left().is_none_or(|left| !left.is_zero()) {
            self.shared.assist(|| self.is_ready());
        }
        let mut state = self.state();
        let sleepers = self.sleepers.get_or_init(Arc::default);
        while state.is_pending() {
            state = match deadline.left() {
                None => sleepers.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => sleepers.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        !state.is_pending()
    }

    fn take(&self) -> Option<Result<Payload, TaskError>> {
        match std::mem::replace(&mut *self.state(), State::Taken) {
            State::Done(result) => Some(*result),
            _ => None,
        }
    }

    /// Has `waker` woken when the result is there; false when it is already.
    pub(crate) fn wake_when_ready(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        match &mut *state {
            State::Awaited(known) => known.clone_from(waker),
            State::Pending => *state = State::Awaited(waker.clone()),
            _ => return false,
        }
        true
    }

    pub(crate) fn wish(&self) -> Wish {
        self.wish.get()
    }

    pub(crate) fn lower(&self, wish: Wish) {
        self.wish.lower(wish);
        self.shared.tell(|inbox| inbox.unwanted = true);
    }
}

impl Sink for Slot {
    fn settle(&self, _: usize, result: Result<Raw, TaskError>) {
        self.fill(result.map(Payload::One));
    }

    fn wish(&self) -> Wish {
        self.wish.get()
    }
}

/// Decodes where the result is awaited.
pub(crate) fn decode<R: DeserializeOwned + 'static>(result: Result<Raw, TaskError>) -> Result<R, TaskError> {
    let Raw { encoding, bytes, handles } = result?;
    wire::decode(encoding, Cow::Owned(bytes), handles).map_err(TaskError::Undecodable)
}

/// As users' code in the pool's own threads is run: a panic of the `Deserialize` is a result that cannot be decoded.
pub(crate) fn caught<R: 'static>(decode: impl FnOnce() -> Result<R, TaskError>) -> Result<R, TaskError> {
    panic::catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
        let text = crate::worker::text_of(&*payload);
        // A payload whose own drop panics is nobody's.
        std::mem::forget(payload);
        Err(TaskError::Undecodable(DecodeError::of::<R>(format!("its `Deserialize` panicked: {text}"))))
    })
}

fn decode_one<R: DeserializeOwned + 'static>(payload: Payload) -> Result<R, TaskError> {
    match payload {
        Payload::One(raw) => decode(Ok(raw)),
        Payload::Many(_) => Err(TaskError::Cancelled), // cannot be: slots are filled by what they were made for
    }
}

fn decode_payload<R: DeserializeOwned + 'static>(payload: Payload) -> Result<Vec<R>, TaskError> {
    match payload {
        Payload::Many(pieces) => decode_many(pieces),
        Payload::One(_) => Err(TaskError::Cancelled), // as above
    }
}

/// The results of a whole map, in order.
pub(crate) fn decode_many<R: DeserializeOwned + 'static>(pieces: Pieces) -> Result<Vec<R>, TaskError> {
    let mut values = Vec::with_capacity(pieces.values().map(Piece::len).sum());
    for piece in pieces.into_values() {
        piece.decode(|value| {
            values.push(value?);
            Ok(())
        })?;
    }
    Ok(values)
}

/// The result of a task, or of a whole map, on its way.
///
/// It can be waited for by a thread ([`get`](AsyncResult::get)), and it is a [`Future`] that needs no particular runtime: no thread
/// waits for it, the pool wakes the task that awaits. A future that is dropped loses nothing but the result.
///
/// Dropping it lets the task run on; [`cancel`](AsyncResult::cancel) ends it. An error that nobody read is counted in what
/// [`Pool::join`](crate::Pool::join) returns.
pub struct AsyncResult<R> {
    slot: Arc<Slot>,
    decode: fn(Payload) -> Result<R, TaskError>,
}

impl<R: DeserializeOwned + 'static> AsyncResult<R> {
    pub(crate) fn one(slot: Arc<Slot>) -> AsyncResult<R> {
        AsyncResult { slot, decode: decode_one }
    }
}

impl<R: DeserializeOwned + 'static> AsyncResult<Vec<R>> {
    pub(crate) fn many(slot: Arc<Slot>) -> AsyncResult<Vec<R>> {
        AsyncResult { slot, decode: decode_payload }
    }
}

impl<R> AsyncResult<R> {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Waits until the task is done, however.
    pub fn wait(&self) {
        self.slot.wait(Deadline::NEVER);
    }

    /// Waits at most `timeout`; false when the task is not done.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.slot.wait(Deadline::after(timeout))
    }

    /// Whether the task is done, however. Once true, always true.
    #[doc(alias = "done")]
    #[must_use]
    pub fn ready(&self) -> bool {
        self.slot.is_ready()
    }

    /// Whether the task returned; `None` while it is not done. The result may still fail to decode.
    #[must_use]
    pub fn successful(&self) -> Option<bool> {
        match &*self.slot.state() {
            State::Done(result) => Some(result.is_ok()),
            _ => None,
        }
    }

    /// Cancels the task: it ends with [`TaskError::Cancelled`], unless it is done already. False in that case, and nothing happens.
    ///
    /// A task that has not started never will, also when it already waits at a worker. One that runs is asked to stop
    /// ([`cancelled`](crate::cancelled) tells it); when it has not within the pool's [grace](crate::Builder::grace), its worker gets
    /// SIGTERM, and after another grace SIGKILL. No other task is hit by that. Does not wait.
    pub fn cancel(&self) -> bool {
        if self.ready() {
            return false;
        }
        self.slot.lower(Wish::Cancelled);
        true
    }

    /// Waits for the task and gives what it returned.
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    #[doc(alias = "result")]
    pub fn get(self) -> Result<R, TaskError> {
        self.wait();
        self.take()
    }

    fn take(&self) -> Result<R, TaskError> {
        self.slot.take().unwrap_or(Err(TaskError::Cancelled)).and_then(self.decode)
    }

    /// As [`get`](AsyncResult::get), but waits at most `timeout`.
    ///
    /// # Errors
    ///
    /// `Err` with this handle when the task is not done: it goes on. Else what [`get`](AsyncResult::get) gives is inside.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, AsyncResult<R>> {
        if self.wait_timeout(timeout) { Ok(self.get()) } else { Err(self) }
    }

    /// As [`get_timeout`](AsyncResult::get_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](AsyncResult::get_timeout).
    pub fn get_deadline(self, deadline: Instant) -> Result<Result<R, TaskError>, AsyncResult<R>> {
        self.get_timeout(deadline.saturating_duration_since(Instant::now()))
    }
}

impl<R> Future for AsyncResult<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.slot.wake_when_ready(context.waker()) { Poll::Pending } else { Poll::Ready(self.take()) }
    }
}

impl<R> Drop for AsyncResult<R> {
    fn drop(&mut self) {
        let before = {
            let mut state = self.slot.state();
            match &*state {
                State::Pending | State::Awaited(_) => std::mem::replace(&mut *state, State::Detached),
                _ => std::mem::replace(&mut *state, State::Taken),
            }
        };
        if let State::Done(result) = before
            && let Err(error) = *result
        {
            self.slot.shared.unread(&error);
        }
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.ready()).finish_non_exhaustive()
    }
}
