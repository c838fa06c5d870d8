//! Callbacks of users, run on a thread of their own: one that panics harms nobody, one that blocks delays only the others.

use crate::error::TaskError;
use crate::job::{Raw, Sink};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A callback, ready to run.
pub(crate) type Callback = Box<dyn FnOnce() + Send>;

/// The thread, started with the first callback.
#[derive(Debug, Default)]
pub(crate) struct Callbacks(Mutex<Option<(Sender<Callback>, JoinHandle<()>)>>);

impl Callbacks {
    /// The way to the thread; `None` when the system has no thread left.
    pub(crate) fn runner(&self) -> Option<Sender<Callback>> {
        let mut callbacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callbacks.is_none() {
            let (sender, receiver) = mpsc::channel::<Callback>();
            let run = move || {
                for callback in receiver {
                    // What it says was printed by the panic's hook.
                    let _ = panic::catch_unwind(AssertUnwindSafe(callback));
                }
            };
            let thread = thread::Builder::new().name("mp-pool-callback".into()).spawn(run).ok()?;
            *callbacks = Some((sender, thread));
        }
        callbacks.as_ref().map(|(sender, _)| sender.clone())
    }

    /// Waits for all callbacks, once nothing more will settle.
    pub(crate) fn finish(&self) {
        let callbacks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = callbacks {
            drop(sender);
            // A pool that is dropped inside of its own callback cannot wait for it.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

type Call<T> = Box<dyn FnOnce(Result<T, TaskError>) + Send>;

/// Runs a callback with what comes in.
pub(crate) struct ToCallback<T> {
    runner: Option<Sender<Callback>>,
    call: Mutex<Option<Call<T>>>,
}

impl<T: Send + 'static> ToCallback<T> {
    pub(crate) fn new(
        runner: Option<Sender<Callback>>,
        call: impl FnOnce(Result<T, TaskError>) + Send + 'static,
    ) -> ToCallback<T> {
        ToCallback { runner, call: Mutex::new(Some(Box::new(call))) }
    }

    pub(crate) fn fill(&self, result: Result<T, TaskError>) {
        let call = self.call.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(runner), Some(call)) = (&self.runner, call) {
            // The thread lives as long as the pool, which settles everything before it ends.
            let _ = runner.send(Box::new(move || call(result)));
        }
    }
}

impl Sink for ToCallback<Raw> {
    fn settle(&self, _: usize, result: Result<Raw, TaskError>) {
        self.fill(result);
    }
}
