//! The result of a task that runs elsewhere.

use crate::error::TaskError;
use crate::job::{Raw, Sink};
use mp_core::{Deadline, wire};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where one result comes in.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Pending,
    Done(Box<Result<Raw, TaskError>>),
    Taken,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the result is there; false when the time is over first.
    fn wait(&self, deadline: Deadline) -> bool {
        let mut state = self.state();
        while matches!(*state, State::Pending) {
            state = match deadline.left() {
                None => self.settled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    fn take(&self) -> Option<Result<Raw, TaskError>> {
        match std::mem::replace(&mut *self.state(), State::Taken) {
            State::Done(result) => Some(*result),
            State::Pending | State::Taken => None,
        }
    }
}

/// The slot's side in the job.
pub(crate) struct ToSlot(pub(crate) Arc<Slot>);

impl Sink for ToSlot {
    fn settle(self: Box<Self>, result: Result<Raw, TaskError>) {
        *self.0.state() = State::Done(Box::new(result));
        self.0.settled.notify_all();
    }
}

/// Decodes where the result is awaited.
pub(crate) fn decode<R: DeserializeOwned + 'static>(result: Result<Raw, TaskError>) -> Result<R, TaskError> {
    let Raw { encoding, bytes, handles } = result?;
    wire::decode(encoding, Cow::Owned(bytes), handles).map_err(TaskError::Undecodable)
}

/// The result of a task, on its way. Dropping it lets the task run on.
pub struct AsyncResult<R> {
    slot: Arc<Slot>,
    result: PhantomData<fn() -> R>,
}

impl<R> AsyncResult<R> {
    pub(crate) fn new() -> (AsyncResult<R>, ToSlot) {
        let slot = Arc::new(Slot::default());
        (AsyncResult { slot: Arc::clone(&slot), result: PhantomData }, ToSlot(slot))
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
    #[must_use]
    pub fn ready(&self) -> bool {
        !matches!(*self.slot.state(), State::Pending)
    }

    /// Whether the task returned; `None` while it is not done. The result may still fail to decode.
    #[must_use]
    pub fn successful(&self) -> Option<bool> {
        match &*self.slot.state() {
            State::Done(result) => Some(result.is_ok()),
            State::Pending | State::Taken => None,
        }
    }
}

impl<R: DeserializeOwned + 'static> AsyncResult<R> {
    /// Waits for the task and gives what it returned.
    ///
    /// # Errors
    ///
    /// See [`TaskError`].
    pub fn get(self) -> Result<R, TaskError> {
        self.wait();
        decode(self.slot.take().unwrap_or(Err(TaskError::Cancelled)))
    }

    /// As [`get`](AsyncResult::get), but waits at most `timeout`.
    ///
    /// # Errors
    ///
    /// `Err` with this handle when the task is not done: it goes on. Else what [`get`](AsyncResult::get) gives is inside.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, AsyncResult<R>> {
        if self.wait_timeout(timeout) { Ok(self.get()) } else { Err(self) }
    }
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.ready()).finish_non_exhaustive()
    }
}
