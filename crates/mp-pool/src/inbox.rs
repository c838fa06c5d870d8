//! What is pushed to a pool's owner from outside, and the bell that wakes it.

use crate::error::TaskError;
use crate::job::Job;
use crate::seat::Seat;
use mp_process::SpawnError;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What others push to the owner.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) jobs: VecDeque<Job>,
    /// Workers that were started, or not, with their seats.
    pub(crate) started: Vec<(usize, Result<Seat, SpawnError>)>,
    /// Some job is unwanted from now on.
    pub(crate) unwanted: bool,
    pub(crate) closed: bool,
    pub(crate) terminated: bool,
    /// Why the pool broke.
    pub(crate) broken: Option<String>,
}

/// Why the pool takes no more jobs: it was closed, or broke for a reason.
struct Refusal(Option<String>);

impl Refusal {
    fn error(&self) -> TaskError {
        self.0.clone().map_or(TaskError::Closed, TaskError::Broken)
    }
}

impl Inbox {
    fn refusal(&self) -> Option<Refusal> {
        let refuses = self.closed || self.terminated || self.broken.is_some();
        refuses.then(|| Refusal(self.broken.clone()))
    }
}

/// What the owner and all others share.
#[derive(Debug)]
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    pub(crate) bell: OwnedFd,
    /// The owner is, or is about to be, in its poll.
    pub(crate) asleep: AtomicBool,
    /// Something is in the inbox.
    pub(crate) full: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Shared> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (asleep, full) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Shared { inbox: Mutex::default(), bell, asleep, full })
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the inbox and wakes the owner if it sleeps.
    pub(crate) fn tell<R>(&self, change: impl FnOnce(&mut Inbox) -> R) -> R {
        let result = change(&mut self.inbox());
        // SeqCst: this store before the load below, the owner's `asleep` before its look at `full`; one of both sees the other.
        self.full.store(true, SeqCst);
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            // Full means rung.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
        result
    }

    /// Queues `job`; when the pool takes none any more, its items are told why.
    pub(crate) fn submit(&self, job: Job) {
        let refused = self.tell(|inbox| match inbox.refusal() {
            Some(why) => Some((job, why)),
            None => {
                inbox.jobs.push_back(job);
                None
            }
        });
        // Outside of the lock: what is settled there may drop users' values.
        if let Some((job, why)) = refused {
            job.items.into_iter().for_each(|item| item.receipt.settle(Err(why.error())));
        }
    }

    /// Lets bells fall silent.
    pub(crate) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}
