//! The one owner of a pool's state: a thread that hands out jobs, takes results, sees deaths and keeps time.
//!
//! | event | what the owner does |
//! | --- | --- |
//! | a job is submitted | queues it; sends it to the ready worker with the fewest jobs |
//! | a result arrives | settles its item |
//! | a worker is ready, or idle while another has unstarted jobs | sends it jobs, taken back from the other where needed |
//! | a worker's pidfd is readable | reads its line out, settles the item that ran, queues the rest again, starts another worker |
//! | a task runs past its time-out | takes the rest back, SIGTERM, and SIGKILL after a grace; its death is seen as any other |
//! | nobody wants a job any more | takes it back if it has not started, cancels it |
//! | workers die again and again before they are ready, and none is | breaks the pool: every job gets the reason |
//! | closed, and nothing is left | lets the workers go |
//! | terminated | kills the workers, cancels every job |
//!
//! Invariants:
//! 1. Nobody else touches seats and queue; others push into the inbox and ring.
//! 2. No user's code runs here, nothing blocks but the one poll, and the poll holds everything that can happen: pidfds, lines,
//!    standard errors, the bell, and the nearest time-out. So an idle pool makes no wake-ups.
//! 3. Every item is in exactly one place: the inbox, the queue, one seat, or settled. Wherever it is dropped it is settled, so not even
//!    a panic here leaves anybody waiting.
//! 4. An item that has started is never sent again; one that has not is, for free.
//!
//! The inbox is a mutex with two flags beside it. Whoever changes it stores `full`, then looks at `asleep`; the owner stores `asleep`, then
//! looks at `full`, both sequentially consistent: one of the two sees the other. A line is the same with its rings' words.

use crate::error::TaskError;
use crate::inbox::Shared;
use crate::job::Job;
use crate::seat::{Condition, News, Recipe, Refused, Seat};
use crate::stderr::{self, Stderr};
use mp_core::park::{self, Spin};
use mp_process::Process;
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How many jobs are at a worker at most: enough to keep it busy, taken back as long as they have not started.
const PREFETCH: usize = 16;
/// How many results of one worker are taken before the others get their turn.
const TURN: usize = 64;
/// How many busy turns may pass before deaths and time-outs are looked at.
const BUSY_TURNS: u32 = 32;
/// So many workers in a row that die before they are ready, while no other is, break the pool.
const HOPELESS: u32 = 5;
/// The pause before a worker is started after others have failed grows from the one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a worker may take to leave when it is let go.
const LEAVE: Duration = Duration::from_secs(5);

/// The owner's state.
#[derive(Debug)]
pub(crate) struct Owner {
    shared: Arc<Shared>,
    recipe: Arc<Recipe>,
    seats: Vec<Option<Seat>>,
    queue: VecDeque<Job>,
    /// Workers that are being started by threads of their own.
    starting: usize,
    /// Seats whose next worker is started later, after failures.
    pauses: Vec<(usize, Instant)>,
    /// Workers in a row that did not get ready.
    failures: u32,
    /// What the last initializer that failed said.
    last_failure: Option<String>,
    closed: bool,
    terminated: bool,
    /// No more workers are started.
    leaving: bool,
    spin: Spin,
    scratch: Vec<u8>,
    /// This process's standard error takes nothing now.
    stderr_full: bool,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    /// The bell, a line, this process's standard error: woken is all there is to it.
    Wake,
    Death(usize),
    Stderr(usize),
}

impl Owner {
    pub(crate) fn new(shared: Arc<Shared>, recipe: Recipe, seats: Vec<Seat>) -> Owner {
        Owner {
            shared,
            recipe: Arc::new(recipe),
            seats: seats.into_iter().map(Some).collect(),
            queue: VecDeque::new(),
            starting: 0,
            pauses: Vec::new(),
            failures: 0,
            last_failure: None,
            closed: false,
            terminated: false,
            leaving: false,
            spin: Spin::default(),
            scratch: Vec::new(),
            stderr_full: false,
        }
    }

    pub(crate) fn run(mut self) {
        // Should anything here panic: nobody waits for a pool without an owner.
        let guard = Unattended(Arc::clone(&self.shared));
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
        drop(guard);
    }

    fn seated(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().flatten()
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
        let unwanted = std::mem::take(&mut inbox.unwanted);
        drop(inbox);
        for (seat, worker) in started {
            self.starting -= 1;
            match worker {
                Ok(worker) => self.seats[seat] = Some(worker),
                Err(error) => self.not_ready(seat, &error.to_string()),
            }
        }
        if unwanted {
            self.drop_unwanted();
        }
    }

    /// Cancels what nobody wants and has not started: dropping an item settles it.
    fn drop_unwanted(&mut self) {
        self.queue.retain(|job| !job.is_unwanted());
        for seat in self.seats.iter_mut().flatten() {
            drop(seat.take_unwanted());
        }
    }

    fn is_done(&self) -> bool {
        let idle = || self.queue.is_empty() && self.seated().all(|seat| seat.load() == 0);
        self.terminated || (self.closed && idle())
    }

    fn take_results(&mut self) -> bool {
        let mut progress = false;
        for index in 0..self.seats.len() {
            for _ in 0..TURN {
                if !self.take_result(index) {
                    break;
                }
                progress = true;
            }
        }
        progress
    }

    /// Takes one record of a worker, if there is one.
    fn take_result(&mut self, index: usize) -> bool {
        let Some(seat) = &mut self.seats[index] else { return false };
        match seat.read(&mut self.scratch) {
            Ok(None) => false,
            Ok(Some(News::Settled)) => true,
            Ok(Some(News::Ready)) => {
                self.failures = 0;
                true
            }
            Ok(Some(News::Broken(why))) => {
                self.last_failure = Some(why);
                true
            }
            Err(_) => {
                // A line that makes no sense: its worker is ended, and its death says the rest.
                let _ = seat.process.kill();
                false
            }
        }
    }

    /// Hands out what is queued; true when something was sent.
    fn dispatch(&mut self) -> bool {
        if self.queue.is_empty() {
            self.share_out();
        }
        let mut progress = false;
        let mut seats = std::mem::take(&mut self.seats);
        seats.iter_mut().flatten().for_each(|seat| seat.full = false);
        while let Some(job) = self.queue.pop_front() {
            let free = |seat: &&mut Seat| seat.is_ready() && !seat.full && seat.jobs() < PREFETCH;
            let Some(seat) = seats.iter_mut().flatten().filter(free).min_by_key(|seat| seat.jobs()) else {
                self.queue.push_front(job);
                break;
            };
            match seat.send(job, &mut self.scratch) {
                Ok(()) => progress = true,
                Err(Refused::Never(job, error)) => job.fail(*error),
                Err(Refused::Later(job)) => {
                    seat.full = true;
                    self.queue.push_front(job);
                }
            }
        }
        if progress {
            seats.iter().flatten().for_each(|seat| seat.line.wake());
        }
        self.seats = seats;
        progress
    }

    /// A worker is idle while another has jobs that have not started: those are taken back and shared.
    fn share_out(&mut self) {
        if !self.seated().any(|seat| seat.is_ready() && seat.jobs() == 0) {
            return;
        }
        let loaded = self.seats.iter_mut().flatten().filter(|seat| seat.load() > 1);
        if let Some(seat) = loaded.max_by_key(|seat| seat.surplus())
            && seat.surplus() > 0
        {
            self.queue.extend(seat.give_surplus());
        }
    }

    /// Nothing to do now: spins for a moment when results are awaited, then sleeps.
    fn rest(&mut self) {
        let (seats, shared) = (&self.seats, &self.shared);
        let something =
            || shared.full.load(Relaxed) || seats.iter().flatten().any(|seat| seat.line.has_message());
        if self.spin.until(u32::MAX, something) {
            return;
        }
        for seat in self.seats.iter_mut().flatten() {
            // Fails only when the line is broken: its pidfd or socket says so in the poll.
            let _ = seat.line.announce_sleep(seat.full);
        }
        self.shared.asleep.store(true, SeqCst);
        park::heavy_barrier();
        let something = self.shared.full.load(SeqCst) || self.seated().any(Seat::has_news);
        let timeout = if something {
            Some(Duration::ZERO)
        } else {
            let now = Instant::now();
            let deadlines = self.seated().filter_map(|seat| seat.deadline(now));
            let nearest = deadlines.chain(self.pauses.iter().map(|(_, until)| *until)).min();
            nearest.map(|at| at.saturating_duration_since(now))
        };
        self.look_around(timeout);
        self.shared.asleep.store(false, SeqCst);
        for seat in self.seats.iter().flatten() {
            seat.line.announce_awake();
        }
    }

    /// Polls everything, at most `timeout`, and sees to what is not a result: deaths, standard errors, time-outs.
    fn look_around(&mut self, timeout: Option<Duration>) {
        let happened = self.poll(timeout);
        self.stderr_full = false;
        let now = Instant::now();
        for what in happened {
            match what {
                Polled::Stderr(index) => self.forward_stderr(index),
                Polled::Death(index) => self.replace(index),
                Polled::Wake => {}
            }
        }
        for index in 0..self.seats.len() {
            let Some(seat) = &mut self.seats[index] else { continue };
            let back = seat.keep_time(now, &mut self.scratch);
            self.queue_again(back);
        }
        let (over, pauses) =
            std::mem::take(&mut self.pauses).into_iter().partition(|(_, until)| *until <= now);
        self.pauses = pauses;
        let over: Vec<(usize, Instant)> = over;
        over.into_iter().for_each(|(seat, _)| self.start(seat));
    }

    /// What is ready, once something is.
    fn poll(&self, timeout: Option<Duration>) -> Vec<Polled> {
        let own_stderr = stderr::own();
        let mut what = vec![Polled::Wake];
        let mut polled = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
        if self.stderr_full {
            what.push(Polled::Wake);
            polled.push(PollFd::new(&own_stderr, PollFlags::OUT));
        }
        for (index, seat) in self.seats.iter().enumerate() {
            let Some(seat) = seat else { continue };
            what.extend([Polled::Death(index), Polled::Wake]);
            polled.push(PollFd::new(&seat.process, PollFlags::IN));
            polled.push(PollFd::from_borrowed_fd(seat.line.as_fd(), PollFlags::IN));
            if let (Some(pipe), false) = (seat.stderr.pipe(), self.stderr_full) {
                what.push(Polled::Stderr(index));
                polled.push(PollFd::new(pipe, PollFlags::IN));
            }
        }
        if park::poll_once(&mut polled, timeout).is_err() {
            thread::yield_now(); // no memory for a poll; the next turn tries again
        }
        self.shared.silence();
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let happened: Vec<Polled> =
            what.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(what, _)| what).collect();
        happened
    }

    fn forward_stderr(&mut self, index: usize) {
        if let Some(seat) = &mut self.seats[index]
            && !seat.stderr.forward()
        {
            self.stderr_full = true;
        }
    }

    /// The worker has ended: what it said is read first, then its jobs are sorted.
    fn replace(&mut self, index: usize) {
        let Some(status) = self.seats[index].as_ref().and_then(|seat| seat.process.exit_status()) else {
            return; // held back by a debugger
        };
        while self.take_result(index) {}
        let Some(mut seat) = self.seats[index].take() else { return };
        seat.stderr.finish();
        let was_ready = seat.condition != Condition::Starting;
        let back = seat.bury(status);
        self.queue_again(back);
        if was_ready {
            self.start(index);
        } else {
            let why = self.last_failure.take();
            let why = why.unwrap_or_else(|| format!("a worker ended with {status} before it was ready"));
            self.not_ready(index, &why);
        }
    }

    /// Puts what has not started before everything else, in its order.
    fn queue_again(&mut self, jobs: Vec<Job>) {
        jobs.into_iter().rev().filter(|job| !job.is_unwanted()).for_each(|job| self.queue.push_front(job));
    }

    fn not_ready(&mut self, index: usize, why: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= HOPELESS && !self.seated().any(Seat::is_ready) {
            self.break_pool(why);
        } else {
            let pause = LONGEST_PAUSE.min(SHORTEST_PAUSE * self.failures);
            self.pauses.push((index, Instant::now() + pause));
        }
    }

    /// Starts a worker for the seat in a thread of its own: a start may take its time, the pool goes on.
    fn start(&mut self, index: usize) {
        if self.leaving {
            return;
        }
        let (shared, recipe) = (Arc::clone(&self.shared), Arc::clone(&self.recipe));
        let starter = move || {
            let seat = Seat::start(&recipe);
            shared.tell(|inbox| inbox.started.push((index, seat)));
        };
        match thread::Builder::new().name("mp-pool-start".into()).spawn(starter) {
            Ok(_) => self.starting += 1,
            Err(error) => self.not_ready(index, &format!("no thread to start a worker: {error}")),
        }
    }

    fn break_pool(&mut self, why: &str) {
        self.shared.inbox().broken.get_or_insert_with(|| why.to_owned());
        self.terminated = true;
    }

    /// The one way out: nothing is left of the pool afterwards, and every item is settled.
    fn shut_down(mut self) {
        self.leaving = true;
        self.settle_all();
        while self.starting > 0 {
            self.shared.asleep.store(true, SeqCst);
            if !self.shared.full.load(SeqCst) {
                let _ = park::sleep_on_fds(&[self.shared.bell.as_fd()], None);
            }
            self.shared.silence();
            self.take_inbox();
        }
        if self.terminated {
            // Fails only for those that have ended.
            self.seated().for_each(|seat| drop(seat.process.kill()));
        }
        // A worker leaves once its line is closed at this end.
        let leaving = self.seats.drain(..).flatten().map(Seat::let_go).collect();
        wait_for_all(leaving);
        self.settle_all();
    }

    /// Settles what is left: cancelled, or with the reason why the pool broke.
    fn settle_all(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.closed = true;
        self.queue.append(&mut inbox.jobs);
        let broken = inbox.broken.clone();
        drop(inbox);
        for seat in self.seats.iter_mut().flatten() {
            self.queue.extend(seat.take_jobs());
        }
        for item in self.queue.drain(..).flat_map(|job| job.items) {
            let why = broken.clone().map_or(TaskError::Cancelled, TaskError::Broken);
            item.receipt.settle(Err(why));
        }
    }
}

/// Waits until all workers have ended, passing on what they still write; kills those that take too long.
fn wait_for_all(mut leaving: Vec<(Process<()>, Stderr)>) {
    let give_up = Instant::now() + LEAVE;
    loop {
        let mut full = false;
        leaving.retain_mut(|(process, stderr)| {
            let ended = process.exit_status().is_some();
            if ended {
                stderr.finish()
            } else {
                full |= !stderr.forward()
            }
            !ended
        });
        if leaving.is_empty() {
            return;
        }
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            leaving.iter().for_each(|(process, _)| drop(process.kill()));
            full = true;
        }
        let pipes = leaving.iter().filter_map(|(_, stderr)| stderr.pipe().filter(|_| !full).map(AsFd::as_fd));
        let fds: Vec<_> = leaving.iter().map(|(process, _)| process.as_fd()).chain(pipes).collect();
        // A killed worker ends: from then on its pidfd alone is waited for.
        let _ = park::sleep_on_fds(&fds, Some(left).filter(|left| !left.is_zero()));
    }
}

/// Breaks the pool when its owner is gone without having shut it down.
struct Unattended(Arc<Shared>);

impl Drop for Unattended {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox();
        if thread::panicking() {
            inbox.broken.get_or_insert_with(|| "the thread that owns the pool panicked".to_owned());
        }
        inbox.closed = true;
        let left = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        // Settles each.
        drop(left);
    }
}
