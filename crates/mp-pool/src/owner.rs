//! The one owner of a pool's state: a thread that hands out jobs, takes results, sees deaths and keeps time.
//!
//! | event | what the owner does |
//! | --- | --- |
//! | a job is submitted | queues it; sends it to the ready worker with the fewest jobs |
//! | a result arrives | settles its item |
//! | a worker is ready, or idle while another has unstarted jobs | sends it jobs, taken back from the other where needed |
//! | a worker's pidfd is readable | reads its line out, settles the item that ran, queues the rest again, starts another worker |
//! | a task runs past its time-out | SIGTERM, and SIGKILL after a grace; its death is seen as any other |
//! | workers die again and again before they are ready | breaks the pool: every job is cancelled |
//! | closed, and nothing is left | lets the workers go |
//! | terminated | kills the workers, cancels every job |
//!
//! Invariants:
//! 1. Nobody else touches seats and queue; others push into the inbox and ring.
//! 2. No user's code runs here, nothing blocks but the one poll, and the poll holds everything that can happen: pidfds, lines,
//!    standard errors, the bell, and the nearest time-out. So an idle pool makes no wake-ups.
//! 3. Every item is in exactly one place: the inbox, the queue, one seat, or settled.
//! 4. An item that has started is never sent again; one that has not is, for free.

use crate::error::TaskError;
use crate::job::Job;
use crate::seat::{Condition, News, Recipe, Refused, Seat};
use mp_core::park::{self, Spin};
use mp_process::SpawnError;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

/// How many jobs are at a worker at most: enough to keep it busy, taken back as long as they have not started.
const PREFETCH: usize = 16;
/// How many results of one worker are taken before the others get their turn.
const TURN: usize = 64;
/// How many busy turns may pass before deaths and time-outs are looked at.
const BUSY_TURNS: u32 = 32;
/// So many workers in a row that die before they are ready break the pool.
const HOPELESS: u32 = 5;
/// How long a worker may take to leave when it is let go.
const LEAVE: Duration = Duration::from_secs(5);

/// What others push to the owner.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    jobs: VecDeque<Job>,
    started: Vec<(usize, Result<Seat, SpawnError>)>,
    pub(crate) closed: bool,
    pub(crate) terminated: bool,
    /// Why the pool broke.
    pub(crate) broken: Option<String>,
}

/// What the owner and all others share.
#[derive(Debug)]
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    bell: OwnedFd,
    /// The owner is, or is about to be, in its poll.
    asleep: AtomicBool,
    /// Something is in the inbox.
    full: AtomicBool,
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
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
        result
    }

    /// Queues `job`.
    ///
    /// # Errors
    ///
    /// Gives it back with the reason when the pool takes none any more.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Box<(Job, TaskError)>> {
        self.tell(|inbox| {
            if inbox.terminated || inbox.broken.is_some() {
                return Err(Box::new((job, TaskError::Cancelled)));
            }
            if inbox.closed {
                return Err(Box::new((job, TaskError::Closed)));
            }
            inbox.jobs.push_back(job);
            Ok(())
        })
    }
}

/// The owner's state.
#[derive(Debug)]
pub(crate) struct Owner {
    shared: Arc<Shared>,
    recipe: Arc<Recipe>,
    seats: Vec<Option<Seat>>,
    queue: VecDeque<Job>,
    /// Workers that are being started by threads of their own.
    starting: usize,
    /// Workers in a row that did not get ready.
    failures: u32,
    closed: bool,
    terminated: bool,
    /// The queue's first job found no room at any worker.
    wants_space: bool,
    spin: Spin,
    scratch: Vec<u8>,
}

impl Owner {
    pub(crate) fn new(shared: Arc<Shared>, recipe: Recipe, seats: Vec<Seat>) -> Owner {
        Owner {
            shared,
            recipe: Arc::new(recipe),
            seats: seats.into_iter().map(Some).collect(),
            queue: VecDeque::new(),
            starting: 0,
            failures: 0,
            closed: false,
            terminated: false,
            wants_space: false,
            spin: Spin::default(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) {
        let mut busy_turns = 0;
        loop {
            self.take_inbox();
            if self.is_done() {
                break;
            }
            let progress = self.take_results() | self.dispatch();
            if progress && busy_turns < BUSY_TURNS {
                busy_turns += 1;
                continue;
            }
            busy_turns = 0;
            if progress {
                self.look_around(Some(Duration::ZERO));
            } else {
                self.rest();
            }
        }
        self.shut_down();
    }

    fn take_inbox(&mut self) {
        if !self.shared.full.swap(false, SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        self.queue.append(&mut inbox.jobs);
        self.closed |= inbox.closed;
        self.terminated |= inbox.terminated | inbox.broken.is_some();
        let started = std::mem::take(&mut inbox.started);
        drop(inbox);
        for (seat, worker) in started {
            self.starting -= 1;
            match worker {
                Ok(worker) => self.seats[seat] = Some(worker),
                Err(error) => self.not_ready(seat, &error.to_string()),
            }
        }
    }

    fn is_done(&self) -> bool {
        let idle = || self.queue.is_empty() && self.seats.iter().flatten().all(|seat| seat.load() == 0);
        self.terminated || (self.closed && idle())
    }

    fn take_results(&mut self) -> bool {
        let mut progress = false;
        for index in 0..self.seats.len() {
            let Some(seat) = &mut self.seats[index] else { continue };
            let mut broken = None;
            for _ in 0..TURN {
                match seat.read(&mut self.scratch) {
                    Ok(None) => break,
                    Ok(Some(News::Settled)) => {}
                    Ok(Some(News::Ready)) => self.failures = 0,
                    Ok(Some(News::Broken(why))) => broken = Some(why),
                    // A line that makes no sense: its worker is ended, and its death says the rest.
                    Err(_) => drop(seat.process.kill()),
                }
                progress = true;
            }
            if let Some(why) = broken {
                self.break_pool(&why);
            }
        }
        progress
    }

    /// Hands out what is queued; true when something was sent.
    fn dispatch(&mut self) -> bool {
        let mut progress = false;
        self.wants_space = false;
        if self.queue.is_empty() {
            self.share_out();
        }
        while let Some(job) = self.queue.pop_front() {
            let ready = self.seats.iter_mut().flatten().filter(|seat| seat.condition == Condition::Ready);
            let Some(seat) = ready.min_by_key(|seat| seat.jobs()).filter(|seat| seat.jobs() < PREFETCH)
            else {
                self.queue.push_front(job);
                break;
            };
            match seat.send(job, &mut self.scratch) {
                Ok(()) => progress = true,
                Err(Refused::Never(job, error)) => fail(job, *error),
                Err(Refused::Later(job)) => {
                    self.queue.push_front(job);
                    self.wants_space = true;
                    break;
                }
            }
        }
        for seat in self.seats.iter().flatten() {
            seat.line.wake();
        }
        progress
    }

    /// A worker is idle while another has jobs that have not started: those are taken back and shared.
    fn share_out(&mut self) {
        let idle = |seat: &Seat| seat.condition == Condition::Ready && seat.jobs() == 0;
        if !self.seats.iter().flatten().any(idle) {
            return;
        }
        let Some(loaded) = self.seats.iter_mut().flatten().max_by_key(|seat| seat.load()) else { return };
        if loaded.load() < 2 {
            return;
        }
        if let Some(mut job) = loaded.give_up_unstarted() {
            let half = job.items.split_off(job.items.len().div_ceil(2));
            if !half.is_empty() {
                let job = Job { items: half, routine: job.routine.clone(), timeout: job.timeout };
                self.queue.push_front(job);
            }
            self.queue.push_front(job);
        }
    }

    /// Nothing to do now: spins for a moment when results are awaited, then sleeps.
    fn rest(&mut self) {
        let seats = &self.seats;
        let shared = &self.shared;
        let something =
            || shared.full.load(Relaxed) || seats.iter().flatten().any(|seat| seat.line.has_message());
        if self.spin.until(u32::MAX, something) {
            return;
        }
        for seat in self.seats.iter_mut().flatten() {
            // Fails only when the line is broken: its pidfd or socket says so in the poll.
            let _ = seat.line.announce_sleep(self.wants_space);
        }
        self.shared.asleep.store(true, SeqCst);
        park::heavy_barrier();
        let nothing = !self.shared.full.load(SeqCst)
            && !self.seats.iter().flatten().any(|seat| seat.line.has_message());
        let now = Instant::now();
        let nearest = self.seats.iter().flatten().filter_map(|seat| seat.deadline(now)).min();
        let timeout = nearest.map(|at| at.saturating_duration_since(now));
        self.look_around(if nothing { timeout } else { Some(Duration::ZERO) });
        self.shared.asleep.store(false, SeqCst);
        for seat in self.seats.iter().flatten() {
            seat.line.announce_awake();
        }
    }

    /// Polls everything, at most `timeout`, and sees to what is not a result: deaths, standard errors, time-outs.
    fn look_around(&mut self, timeout: Option<Duration>) {
        let mut polled = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
        for seat in self.seats.iter().flatten() {
            polled.push(PollFd::new(&seat.process, PollFlags::IN));
            polled.push(PollFd::from_borrowed_fd(seat.line.as_fd(), PollFlags::IN));
            polled.extend(seat.stderr().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
        }
        if park::poll_once(&mut polled, timeout).is_err() {
            thread::yield_now(); // no memory for a poll; the next turn tries again
        }
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        let now = Instant::now();
        for index in 0..self.seats.len() {
            let Some(seat) = &mut self.seats[index] else { continue };
            seat.forward_stderr();
            if seat.deadline(now).is_some_and(|at| at <= now) {
                seat.time_out();
            }
            if seat.process.exit_status().is_some() {
                self.replace(index);
            }
        }
    }

    /// The worker has ended: what it said is read first, then its jobs are sorted.
    fn replace(&mut self, index: usize) {
        let Some(mut seat) = self.seats[index].take() else { return };
        let Some(status) = seat.process.exit_status() else { return };
        let was_ready = seat.condition != Condition::Starting;
        while let Ok(Some(news)) = seat.read(&mut self.scratch) {
            if let News::Broken(why) = news {
                self.break_pool(&why);
            }
        }
        let was_ready = was_ready || seat.condition != Condition::Starting;
        for job in seat.bury(status).into_iter().rev() {
            self.queue.push_front(job);
        }
        if was_ready {
            self.start(index, Duration::ZERO);
        } else {
            self.not_ready(index, &format!("the worker ended with {status} before it was ready"));
        }
    }

    fn not_ready(&mut self, index: usize, why: &str) {
        self.failures += 1;
        if self.failures >= HOPELESS {
            self.break_pool(why);
        } else {
            self.start(index, Duration::from_millis(20) * self.failures);
        }
    }

    /// Starts a worker for the seat in a thread of its own: a start may take its time, the pool goes on.
    fn start(&mut self, index: usize, pause: Duration) {
        if self.terminated {
            return;
        }
        let (shared, recipe) = (Arc::clone(&self.shared), Arc::clone(&self.recipe));
        let starter = move || {
            thread::sleep(pause); // after a failure: not again at once
            let seat = Seat::start(&recipe);
            shared.tell(|inbox| inbox.started.push((index, seat)));
        };
        match thread::Builder::new().name("mp-pool-start".into()).spawn(starter) {
            Ok(_) => self.starting += 1,
            Err(error) => self.break_pool(&format!("no thread to start a worker: {error}")),
        }
    }

    fn break_pool(&mut self, why: &str) {
        self.shared.inbox().broken.get_or_insert_with(|| why.to_owned());
        self.terminated = true;
    }

    /// The one way out: nothing is left of the pool afterwards, and every item is settled.
    fn shut_down(mut self) {
        self.cancel_all();
        while self.starting > 0 {
            self.shared.asleep.store(true, SeqCst);
            if !self.shared.full.load(SeqCst) {
                let _ = park::sleep_on_fds(&[self.shared.bell.as_fd()], None);
            }
            let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
            self.terminated = true;
            self.take_inbox();
        }
        let kill = self.terminated && !self.closed_gently();
        let mut leaving = Vec::new();
        for seat in self.seats.drain(..).flatten() {
            if kill {
                let _ = seat.process.kill();
            }
            leaving.push(seat.let_go());
        }
        let give_up = Instant::now() + LEAVE;
        for process in leaving {
            process.end(give_up.saturating_duration_since(Instant::now()));
        }
        self.cancel_all();
    }

    fn closed_gently(&self) -> bool {
        let inbox = self.shared.inbox();
        inbox.closed && !inbox.terminated && inbox.broken.is_none()
    }

    fn cancel_all(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.closed = true;
        self.queue.append(&mut inbox.jobs);
        drop(inbox);
        for seat in self.seats.iter_mut().flatten() {
            self.queue.extend(seat.take_jobs());
        }
        for job in self.queue.drain(..) {
            for item in job.items {
                item.sink.settle(Err(TaskError::Cancelled));
            }
        }
    }
}

/// The job can be sent to nobody: its first item gets the error, and the others the text of it.
fn fail(job: Job, error: TaskError) {
    let text = error.to_string();
    let mut error = Some(error);
    for item in job.items {
        let error = error.take().unwrap_or_else(|| TaskError::Io(io::Error::other(text.clone())));
        item.sink.settle(Err(error));
    }
}
