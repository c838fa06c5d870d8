//! Events of a pool, told to a thread of their own: what listens there (a file, a subscriber) can delay or hurt nobody else.

use crate::trace::Trace;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::{io, panic};

/// What happened.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(feature = "log", feature = "tracing")),
    expect(dead_code, reason = "the trace reads less")
)]
pub(crate) enum Event {
    /// A task has ended. Times in nanoseconds of the monotonic clock.
    Ran {
        function: &'static str,
        worker: usize,
        pid: u32,
        born: u64,
        started: u64,
        ran: u64,
        error: Option<String>,
    },
    /// A worker was started.
    Started { worker: usize, pid: u32 },
    /// A worker has ended.
    Ended { worker: usize, pid: u32, why: String },
    /// An error was dropped unread.
    Unread(String),
}

/// The way to the listeners.
#[derive(Clone, Debug)]
pub(crate) struct Observer(Sender<Event>);

impl Observer {
    /// The listeners that were asked for; `None` when there are none.
    pub(crate) fn new(trace: Option<&Path>) -> io::Result<Option<(Observer, JoinHandle<()>)>> {
        if trace.is_none() && cfg!(not(any(feature = "log", feature = "tracing"))) {
            return Ok(None);
        }
        let trace = trace.map(Trace::create).transpose()?;
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("mp-pool-events".into());
        let thread = thread.spawn(move || listen(&receiver, trace))?;
        Ok(Some((Observer(sender), thread)))
    }

    pub(crate) fn tell(&self, event: Event) {
        // The thread ends only after the last sender.
        let _ = self.0.send(event);
    }
}

fn listen(events: &Receiver<Event>, mut trace: Option<Trace>) {
    for event in events {
        if let Some(trace) = &mut trace {
            trace.write(&event);
        }
        // A subscriber's panic was printed by the hook.
        let _ = panic::catch_unwind(|| emit(&event));
    }
    if let Some(trace) = trace {
        trace.finish();
    }
}

#[cfg_attr(
    not(any(feature = "log", feature = "tracing")),
    expect(unused_variables, reason = "nobody listens")
)]
fn emit(event: &Event) {
    #[cfg(feature = "log")]
    match event {
        Event::Ran { function, pid, error: Some(error), .. } => {
            log::debug!("task {function} in {pid}: {error}")
        }
        Event::Ran { .. } => {}
        Event::Started { worker, pid } => log::debug!("worker {worker} started as {pid}"),
        Event::Ended { worker, pid, why } => log::debug!("worker {worker} ({pid}) ended: {why}"),
        Event::Unread(error) => log::warn!("nobody read the error of a task: {error}"),
    }
    #[cfg(feature = "tracing")]
    match event {
        Event::Ran { function, worker, pid, born, started, ran, error } => {
            let waited = started.saturating_sub(*born);
            tracing::debug!(target: "mp_pool", function, worker, pid, waited, ran, error, "task");
        }
        Event::Started { worker, pid } => tracing::debug!(target: "mp_pool", worker, pid, "worker started"),
        Event::Ended { worker, pid, why } => {
            tracing::debug!(target: "mp_pool", worker, pid, why, "worker ended")
        }
        Event::Unread(error) => tracing::warn!(target: "mp_pool", error, "nobody read the error of a task"),
    }
}
