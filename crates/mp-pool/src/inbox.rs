//! What is pushed to a pool's owner from outside, and the bell that wakes it.

use crate::error::TaskError;
use crate::job::Job;
use crate::observe::{Event, Observer};
use crate::owner::Owner;
use crate::room::Rooms;
use crate::seat::Seat;
use crate::stats::Stats;
use crate::wakers::{self, Kept};
use crate::worker;
use mp_process::SpawnError;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::{fmt, io};

/// What others push to the owner.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) jobs: VecDeque<Job>,
    /// Workers that were started, or not, with their posts.
    pub(crate) started: Vec<(usize, Result<Seat, SpawnError>)>,
    /// Some job is unwanted from now on.
    pub(crate) unwanted: bool,
    /// How many workers there shall be from now on.
    pub(crate) resize: Option<usize>,
    pub(crate) closed: bool,
    pub(crate) terminated: bool,
    /// Why the pool broke.
    pub(crate) broken: Option<String>,
    /// The last state of a pool that has shut down.
    pub(crate) stats: Option<Stats>,
}

/// Why the pool takes no more jobs: it was closed, or broke for a reason.
pub(crate) struct Refusal(Option<String>);

impl Refusal {
    pub(crate) fn error(&self) -> TaskError {
        self.0.clone().map_or(TaskError::Closed, TaskError::Broken)
    }
}

impl Inbox {
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let refuses = self.closed || self.terminated || self.broken.is_some();
        refuses.then(|| Refusal(self.broken.clone()))
    }
}

/// What the owner and all others share.
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    pub(crate) bell: OwnedFd,
    /// The owner's thread is, or is about to be, in its poll.
    pub(crate) asleep: AtomicBool,
    /// Something is in the inbox.
    pub(crate) full: AtomicBool,
    /// All other state. Who holds the lock is the owner: its thread, or a caller for a moment. `None` once the pool has shut down.
    owner: Mutex<Option<Owner>>,
    /// Results that were errors and that nobody read.
    unread: AtomicU64,
    observer: Mutex<Option<Observer>>,
    /// For a pool whose queue is limited.
    pub(crate) rooms: Option<Arc<Rooms>>,
    /// For a pool without workers: the caller runs each job at once.
    inline: bool,
}

impl Shared {
    pub(crate) fn new(
        observer: Option<Observer>,
        rooms: Option<Arc<Rooms>>,
        inline: bool,
    ) -> io::Result<Shared> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Shared {
            inbox: Mutex::default(),
            bell,
            asleep: AtomicBool::new(false),
            full: AtomicBool::new(false),
            owner: Mutex::new(None),
            unread: AtomicU64::new(0),
            observer: Mutex::new(observer),
            rooms,
            inline,
        })
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owner(&self) -> Owned<'_> {
        Owned::new(self.owner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the inbox and wakes the owner if it sleeps.
    pub(crate) fn tell<R>(&self, change: impl FnOnce(&mut Inbox) -> R) -> R {
        let result = change(&mut self.inbox());
        // SeqCst: this store before the load below, the owner's `asleep` before its look at `full`; one of both sees the other.
        self.full.store(true, SeqCst);
        self.ring();
        result
    }

    /// The pool takes no more jobs.
    pub(crate) fn close(&self, terminate: bool) {
        self.tell(|inbox| {
            inbox.closed = true;
            inbox.terminated |= terminate;
        });
        if let Some(rooms) = &self.rooms {
            rooms.open();
        }
    }

    /// What the pool has done so far.
    pub(crate) fn stats(&self) -> Stats {
        let owner = self.owner();
        match owner.as_ref() {
            Some(owner) => owner.stats(),
            None => self.inbox().stats.clone().unwrap_or_default(),
        }
    }

    /// Wakes the owner's thread if it sleeps.
    pub(crate) fn ring(&self) {
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            // Full means rung.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Queues `job`; when the pool takes none any more, its items are told why.
    pub(crate) fn submit(&self, job: Job) {
        self.submit_as(job, |owner, job| owner.accept(job));
    }

    /// Queues `job`, which the caller waits for: if nobody is the owner now, he is it from the sending to the result. So the
    /// shortest way there and back wakes nobody but the worker.
    pub(crate) fn submit_and_assist(&self, job: Job, done: impl Fn() -> bool) {
        self.submit_as(job, |owner, job| owner.accept_and_assist(job, done));
    }

    fn submit_as(&self, job: Job, accept: impl FnOnce(&mut Owner, Job) -> Option<(Job, Refusal)>) {
        if self.inline {
            return self.run_inline(job);
        }
        let refused = match self.try_owner() {
            Some(mut owner) => match owner.as_mut() {
                Some(owner) => accept(owner, job),
                None => Some((job, self.inbox().refusal().unwrap_or(Refusal(None)))),
            },
            None => self.tell(|inbox| match inbox.refusal() {
                Some(why) => Some((job, why)),
                None => {
                    inbox.jobs.push_back(job);
                    None
                }
            }),
        };
        // Outside of the locks: what is settled there may drop users' values.
        if let Some((job, why)) = refused {
            job.fail(|| why.error());
        }
    }

    fn try_owner(&self) -> Option<Owned<'_>> {
        match self.owner.try_lock() {
            Ok(owner) => Some(Owned::new(owner)),
            Err(TryLockError::Poisoned(poisoned)) => Some(Owned::new(poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether items may go many at a time: not where each waits for room of its own, nor where there is no worker.
    pub(crate) fn may_pack(&self) -> bool {
        self.rooms.is_none() && !self.inline
    }

    fn run_inline(&self, job: Job) {
        let refusal = self.inbox().refusal();
        match refusal {
            Some(why) => job.fail(|| why.error()),
            None => worker::run_here(job),
        }
    }

    /// A caller who waits is the owner meanwhile, if nobody is, for as long as results come in quickly.
    pub(crate) fn assist(&self, done: impl Fn() -> bool) {
        if let Some(mut owner) = self.try_owner()
            && let Some(owner) = owner.as_mut()
        {
            owner.assist(done);
        }
    }

    /// Lets bells fall silent.
    pub(crate) fn silence(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    /// An error that nobody will read. What was cancelled is no news.
    pub(crate) fn unread(&self, error: &TaskError) {
        if matches!(error, TaskError::Cancelled) {
            return;
        }
        self.unread.fetch_add(1, Relaxed);
        if let Some(observer) = &*self.observer.lock().unwrap_or_else(PoisonError::into_inner) {
            observer.tell(Event::Unread(error.to_string()));
        }
    }

    /// The pool has ended: so do those who listen. Results may live on.
    pub(crate) fn stop_observing(&self) {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn unread_errors(&self) -> u64 {
        self.unread.load(Relaxed)
    }
}

/// The lock on the state, held. Who was to be woken meanwhile is woken when it has been given back.
pub(crate) struct Owned<'a> {
    guard: MutexGuard<'a, Option<Owner>>,
    // Behind the guard: fields are dropped in this order.
    _wakers: Kept,
}

impl<'a> Owned<'a> {
    fn new(guard: MutexGuard<'a, Option<Owner>>) -> Owned<'a> {
        Owned { guard, _wakers: wakers::keep() }
    }
}

impl Deref for Owned<'_> {
    type Target = Option<Owner>;

    fn deref(&self) -> &Option<Owner> {
        &self.guard
    }
}

impl DerefMut for Owned<'_> {
    fn deref_mut(&mut self) -> &mut Option<Owner> {
        &mut self.guard
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
