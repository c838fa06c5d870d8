//! A seat of the pool: one worker process, its line, and the jobs that were sent to it, in order.
//!
//! | condition | the worker | next |
//! | --- | --- | --- |
//! | `Starting` | runs its initializer | `Ready` by its word, or it dies |
//! | `Ready` | runs jobs in the order in which they were sent | `Doomed` |
//! | `Doomed` | was sent SIGTERM, and after a grace SIGKILL | it dies |
//!
//! Invariants:
//! 1. Results come in the order of the jobs and of their items, so a result belongs to the first item that has none.
//! 2. At most one item runs: the first without a result, if the control block says that it has started.
//! 3. Before a worker is doomed for a time-out, everything that has not started is taken back. So the kill cannot hit another item
//!    than the one that ran too long, and if that one ends meanwhile nothing is killed.
//! 4. An entry of the control block belongs to one job until that job is settled or taken back whole.

use crate::book::{Book, By, Times};
use crate::control::{self, Claim, ENTRIES, task_number};
use crate::error::{Cause, Reason, Report, TaskError};
use crate::job::{Item, Items, Job, LARGE, Raw, Wish, kind};
use crate::line::{EAGER, Line};
use crate::output::{Output, Stream};
use crate::pack::Packed;
use crate::recipe::{Recipe, Recycle};
use crate::terms::Place;
use crate::worker::{self, HEAD, Head};
use mp_core::{Encoding, wire};
use mp_pipe::ring::WriteError;
use mp_process::{ExitStatus, Panic, Process, SpawnError, Stdio};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod patience;

use patience::Patience;
pub(crate) use patience::STALLED;

/// A job at a worker.
#[derive(Debug)]
struct InFlight {
    entry: usize,
    generation: u16,
    /// The items that have no result yet.
    job: Job,
    /// How many of its items have theirs.
    settled: u32,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Starting,
    Ready,
    Doomed { since: Instant, killed: bool, why: Reason },
}

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) process: Arc<Process<()>>,
    pub(crate) line: Line,
    pub(crate) condition: Condition,
    pub(crate) outputs: [Output; 2],
    by: By,
    limits: Recycle,
    born: Instant,
    /// How many items were sent and not taken back.
    sent: u32,
    /// It gets no more jobs and is let go when it has none left.
    pub(crate) retiring: bool,
    /// Too old or too large: it works on until its successor is ready.
    pub(crate) worn: bool,
    /// The task that was asked to stop, and when.
    asked: Option<(u64, Instant)>,
    /// Whether the worker rings for the next result: the pool's thread sleeps.
    pub(crate) announced: bool,
    /// Since when it has nothing to do.
    pub(crate) idle_since: Instant,
    grace: Duration,
    start_timeout: Option<Duration>,
    patience: Patience,
    jobs: VecDeque<InFlight>,
    /// How many items of `jobs` have no result.
    load: usize,
    /// No job here is less urgent.
    least_urgent: i32,
    /// One bit for each entry of the control block that belongs to a job.
    used: u64,
    generations: [u16; ENTRIES],
    /// Found full since the line was last looked at by a sleeper.
    pub(crate) full: bool,
    /// Something was sent, and the worker not woken since.
    unrung: bool,
}

/// What a record of the worker was.
pub(crate) enum News {
    Settled,
    Ready,
    /// The initializer failed, with this.
    Broken(String),
}

/// Why a job was not sent.
pub(crate) enum Refused {
    /// The line is full, or the worker about to be buried.
    Later(Job),
    /// It cannot be sent to any worker.
    Never(Job, Box<TaskError>),
}

impl Seat {
    pub(crate) fn start(recipe: &Recipe, worker: usize) -> Result<Seat, SpawnError> {
        let (line, end) = Line::pair()?;
        let mut builder = recipe.process.clone().daemon(true).core_dump(false).stderr(Stdio::Piped);
        if recipe.capture_stdout {
            builder = builder.stdout(Stdio::Piped);
        }
        if !recipe.pinned.is_empty() {
            builder = builder.cpu_affinity([recipe.pinned[worker % recipe.pinned.len()]]);
        }
        let mut process = builder.spawn(worker::work, (end, recipe.initializer.clone(), worker))?;
        let stderr = Output::new(Stream::Err, process.take_stderr().map(OwnedFd::from));
        let stdout = Output::new(Stream::Out, process.take_stdout().map(OwnedFd::from));
        let (stderr, stdout) = match (stderr, stdout) {
            (Ok(stderr), Ok(stdout)) => (stderr, stdout),
            (Err(error), _) | (_, Err(error)) => {
                // It ends with its line, but not while it is stopped.
                let _ = process.kill();
                return Err(error.into());
            }
        };
        let by = By { worker, pid: process.pid() };
        Ok(Seat {
            process: Arc::new(process),
            line,
            condition: Condition::Starting,
            outputs: [stderr, stdout],
            by,
            limits: recipe.recycle.of_one(mp_core::park::ticks() >> 4),
            born: Instant::now(),
            sent: 0,
            retiring: false,
            worn: false,
            asked: None,
            announced: false,
            idle_since: Instant::now(),
            grace: recipe.grace,
            start_timeout: recipe.start_timeout,
            patience: Patience::default(),
            jobs: VecDeque::new(),
            load: 0,
            least_urgent: i32::MAX,
            used: 0,
            generations: [0; ENTRIES],
            full: false,
            unrung: false,
        })
    }

    /// Ends the worker, whatever it is at.
    pub(crate) fn kill(&self) {
        // Fails only for one that has ended.
        let _ = self.process.kill();
    }

    pub(crate) fn by(&self) -> By {
        self.by
    }

    /// How many more items it may get.
    pub(crate) fn quota(&self) -> usize {
        match self.limits.tasks {
            _ if self.retiring => 0,
            None => usize::MAX,
            Some(tasks) => tasks.saturating_sub(self.sent) as usize,
        }
    }

    /// Whether it may be sent something.
    pub(crate) fn is_free(&self) -> bool {
        self.is_ready() && !self.full && !self.is_stalled() && !self.has_hung_up()
    }

    /// Whether it has had all the tasks that it may have.
    pub(crate) fn is_used_up(&self) -> bool {
        self.is_ready() && self.quota() == 0
    }

    /// Whether it is too old, or, while it has nothing to do, too large.
    pub(crate) fn is_worn(&self, now: Instant) -> bool {
        let old = self.limits.age.is_some_and(|age| now - self.born >= age);
        self.is_ready() && (old || (self.load() == 0 && self.is_bloated()))
    }

    /// When it is used up by age.
    pub(crate) fn used_up_at(&self) -> Option<Instant> {
        self.limits
            .age
            .filter(|_| self.is_ready() && !self.retiring && !self.worn)
            .and_then(|age| self.born.checked_add(age))
    }

    /// Whether it holds more memory than it may; false where that cannot be read.
    fn is_bloated(&self) -> bool {
        self.limits.memory.is_some_and(|most| resident(self.by.pid).is_some_and(|bytes| bytes > most))
    }

    /// Whether anything that may be taken back is less urgent than `priority`.
    pub(crate) fn has_less_urgent(&self, priority: i32) -> bool {
        let less = |InFlight { job, .. }: &InFlight| {
            job.terms.place == Place::Anywhere && job.terms.priority < priority && job.items.len() <= 1
        };
        self.least_urgent < priority && self.jobs.iter().skip(1).any(less)
    }

    /// How many items are there that have no result.
    pub(crate) fn load(&self) -> usize {
        self.load
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.condition == Condition::Ready
    }

    /// For the last look before a sleep: a message, or room for what was refused.
    pub(crate) fn has_news(&self) -> bool {
        self.line.has_message() || (self.full && self.line.has_room_since_refused()) || self.reads_again()
    }

    /// The worker is to ring for its next record, or for one at a time when so few wait for it, or fewer.
    pub(crate) fn announce_below(&mut self, below: Option<u32>) {
        let wants_space = self.full || self.is_stalled();
        // Fails only when the line is broken: its pidfd or socket says so in the poll.
        let _ = self.line.announce_sleep(wants_space, below.unwrap_or(EAGER));
        self.announced = true;
    }

    /// Whether what it has are packs, which are cut by pace.
    pub(crate) fn runs_packs(&self) -> bool {
        self.jobs.front().is_some_and(|first| first.job.pace().is_some())
    }

    /// Sends `job`; gives it back when the line has no room now, or the kernel no budget for its handles.
    pub(crate) fn send(&mut self, mut job: Job, scratch: &mut Vec<u8>) -> Result<(), Refused> {
        let entry = (!self.used).trailing_zeros() as usize;
        if entry >= ENTRIES {
            return Err(Refused::Later(job));
        }
        let generation = self.generations[entry].wrapping_add(1);
        if let Err(error) = job.encode(entry, generation, scratch) {
            return Err(Refused::Never(job, Box::new(error)));
        }
        let items = u32::try_from(job.items.len()).unwrap_or(control::MOST_ITEMS);
        self.line.control().offer(entry, generation, items);
        let fds = job.items.fds();
        let written = self.line.try_write(job.kind(), job.parts(scratch), &fds);
        drop(fds);
        match written {
            Ok(true) => {}
            Ok(false) => return Err(Refused::Later(job)),
            Err(error) if self.passes(&error) => return Err(Refused::Later(job)),
            Err(error) => return Err(Refused::Never(job, Box::new(write_error(error)))),
        }
        self.generations[entry] = generation;
        self.used |= 1 << entry;
        self.load += job.items.len();
        self.sent = self.sent.saturating_add(items);
        self.unrung = true;
        let priority = job.terms.priority;
        self.least_urgent = if self.jobs.is_empty() { priority } else { self.least_urgent.min(priority) };
        job.items.each().for_each(Item::sent);
        self.jobs.push_back(InFlight { entry, generation, job, settled: 0 });
        Ok(())
    }

    /// Wakes the worker if it sleeps beside what was sent; one that was sent nothing sleeps on.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.unrung) {
            self.line.wake();
        }
    }

    /// Whether a failed write says nothing of the job: the worker has died, or handles are in flight that it will take.
    fn passes(&self, error: &WriteError) -> bool {
        match error {
            WriteError::Io(error) => match error.kind() {
                io::ErrorKind::BrokenPipe => true,
                io::ErrorKind::QuotaExceeded => !self.line.is_read_out(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Reads one record of the worker, if there is one.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>, book: &mut Book) -> io::Result<Option<News>> {
        scratch.clear();
        let Some(incoming) = self.line.try_read(scratch)? else { return Ok(None) };
        match incoming.kind {
            kind::READY => {
                if self.condition == Condition::Starting {
                    self.condition = Condition::Ready;
                }
                return Ok(Some(News::Ready));
            }
            kind::BROKEN => return Ok(Some(News::Broken(String::from_utf8_lossy(scratch).into_owned()))),
            _ => {}
        }
        if incoming.kind == kind::PACKED {
            let packed = std::mem::take(scratch);
            return match self.settle_packed(packed, book) {
                Some(()) => Ok(Some(News::Settled)),
                None => Err(invalid("results that belong to no items")),
            };
        }
        let (head, bytes) = Head::parse_behind(scratch).ok_or_else(|| invalid("a result without a head"))?;
        let times = Times { started: head.started, ran: head.ran };
        let result = if incoming.kind == kind::RETURNED {
            let length = bytes.len();
            let handles = incoming.handles.map_err(TaskError::Io);
            handles.map(|handles| Raw { encoding: head.encoding, bytes: keep(scratch, length), handles })
        } else {
            Err(error_of(incoming.kind, head.encoding, bytes))
        };
        if self.settle_next(times, result, book) {
            Ok(Some(News::Settled))
        } else {
            Err(invalid("a result that belongs to no item"))
        }
    }

    /// Settles the item whose result comes next; false when there is none.
    fn settle_next(&mut self, times: Times, result: Result<Raw, TaskError>, book: &mut Book) -> bool {
        let Some(first) = self.jobs.front_mut() else { return false };
        let Some(item) = first.job.items.pop_front() else { return false };
        first.settled += 1;
        self.load -= 1;
        book.close(&first.job, item, self.by, times, result);
        self.settled();
        true
    }

    /// Settles the first items of a pack with the results in `record`; `None` when it makes no sense.
    fn settle_packed(&mut self, record: Vec<u8>, book: &mut Book) -> Option<()> {
        let (head, rest) = Head::parse(&record)?;
        let count = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let times = Times { started: head.started, ran: head.ran };
        let results = Packed::new(head.encoding, count, record, HEAD + 4)?;
        self.settle_many(times, results, book)
    }

    fn settle_many(&mut self, times: Times, results: Packed, book: &mut Book) -> Option<()> {
        let first = self.jobs.front_mut()?;
        if !matches!(first.job.items, Items::Packed(_)) || first.job.items.len() < results.count {
            return None;
        }
        let before = first.settled;
        first.settled += u32::try_from(results.count).ok()?;
        self.load -= results.count;
        book.close_many(&mut first.job, before, self.by, times, results);
        self.settled();
        Some(())
    }

    /// Something of the first job was settled.
    fn settled(&mut self) {
        if self.jobs.front().is_some_and(|first| first.job.items.is_empty()) {
            self.remove(0);
        }
        if self.load == 0 {
            self.idle_since = Instant::now();
        }
        if self.asked.take().is_some() {
            self.line.control().ask_to_stop(0);
        }
        self.ask_to_stop();
    }

    /// Takes job `index` out, which has no items left or none that may start.
    fn remove(&mut self, index: usize) -> Option<Job> {
        let InFlight { entry, job, .. } = self.jobs.remove(index)?;
        self.used &= !(1 << entry);
        self.load -= job.items.len();
        self.sent = self.sent.saturating_sub(u32::try_from(job.items.len()).unwrap_or(u32::MAX));
        Some(job)
    }

    /// What the control block says of job `index`, if it is about that job.
    fn claim(&self, index: usize) -> Option<Claim> {
        let job = self.jobs.get(index)?;
        let claim = self.line.control().look(job.entry);
        (claim.generation == job.generation).then_some(claim)
    }

    /// Takes back the items of job `index` that have not started, but for so many as `leave` says.
    fn take_back(&mut self, index: usize, leave: impl Fn(u32) -> u32) -> Option<Job> {
        let in_flight = self.jobs.get(index)?;
        let claim = self.line.control().revoke(in_flight.entry, leave);
        let kept = (claim.limit.saturating_sub(in_flight.settled)) as usize;
        if kept == 0 {
            return self.remove(index).filter(|job| !job.items.is_empty());
        }
        let taken = self.jobs.get_mut(index)?.job.split_off(kept)?;
        self.load -= taken.items.len();
        self.sent = self.sent.saturating_sub(u32::try_from(taken.items.len()).unwrap_or(u32::MAX));
        Some(taken)
    }

    /// How many items could be given to a worker that has nothing to do.
    pub(crate) fn surplus(&self) -> usize {
        let bound = |job: &InFlight| job.job.terms.place != Place::Anywhere;
        let bound: usize =
            self.jobs.iter().skip(1).filter(|job| bound(job)).map(|job| job.job.items.len()).sum();
        let own = match self.jobs.front() {
            Some(first) if first.job.terms.place != Place::Anywhere => first.job.items.len(),
            // One that it is just about to start is its own.
            _ => 1,
        };
        self.load.saturating_sub(own + bound)
    }

    /// Gives away the first job that waits, or half of what has not started of the only one.
    pub(crate) fn give_surplus(&mut self) -> Option<Job> {
        match self.jobs.len() {
            0 => None,
            1 if self.jobs[0].job.terms.place == Place::Anywhere => {
                let started = self.claim(0).is_some_and(|claim| claim.next > 0);
                self.take_back(0, |open| if started { open / 2 } else { open.div_ceil(2) })
            }
            _ => {
                let free = |job: &InFlight| job.job.terms.place == Place::Anywhere;
                // What has waited longest goes first.
                let next = self.jobs.iter().skip(1).position(free)? + 1;
                self.take_back(next, |_| 0)
            }
        }
    }

    /// Takes back everything that has not started.
    pub(crate) fn take_all_back(&mut self) -> Vec<Job> {
        let back = (0..self.jobs.len()).rev().filter_map(|index| self.take_back(index, |_| 0));
        let mut back: Vec<Job> = back.collect();
        back.reverse();
        back
    }

    /// Takes back what is not `kept`, as far as it has not started.
    fn take_back_unless(&mut self, kept: impl Fn(&Job) -> bool) -> Vec<Job> {
        let unkept =
            (0..self.jobs.len()).rev().filter(|index| !kept(&self.jobs[*index].job)).collect::<Vec<_>>();
        unkept.into_iter().filter_map(|index| self.take_back(index, |_| 0)).collect()
    }

    /// Takes back what nobody wants any more, and asks what runs to stop if it is cancelled.
    pub(crate) fn take_unwanted(&mut self) -> Vec<Job> {
        let back = self.take_back_unless(|job| job.wish() == Wish::Wanted);
        self.ask_to_stop();
        back
    }

    /// Asks what runs to stop, if it is cancelled and was not asked yet. One that runs behind results that are not read yet is asked once these
    /// are settled.
    #[inline]
    fn ask_to_stop(&mut self) {
        if let Some(first) = self.jobs.front()
            && self.asked.is_none()
            && first.job.wish() == Wish::Cancelled
            && let Some(number) = self.running()
        {
            self.line.control().ask_to_stop(number);
            self.asked = Some((number, Instant::now()));
        }
    }

    /// Takes back what has not started in time.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<Job> {
        self.take_back_unless(|job| job.expired(now).is_none())
    }

    /// Takes back what is less urgent than `priority` and may run elsewhere.
    pub(crate) fn take_less_urgent(&mut self, priority: i32) -> Vec<Job> {
        let mut back = self.take_back_unless(|job| {
            job.terms.place != Place::Anywhere || job.terms.priority >= priority || job.items.len() > 1
        });
        back.reverse();
        back
    }

    /// The number of the task that runs.
    fn running(&self) -> Option<u64> {
        let first = self.jobs.front()?;
        let claim = self.claim(0).filter(|claim| claim.next > first.settled)?;
        Some(task_number(first.entry.to_le_bytes()[0], first.generation, claim.next - 1))
    }

    /// The worker has ended with `status`, and its line was read out: the item that ran gets its error, and what has not started
    /// comes back.
    pub(crate) fn bury(&mut self, status: ExitStatus, book: &mut Book) -> Vec<Job> {
        // What it had computed and not published.
        if let Some(slate) = self.line.left_on_slate()
            && let times =
                (Times { started: slate.started, ran: control::now().saturating_sub(slate.started) })
            && let Some(results) = Packed::new(Encoding(slate.encoding), slate.items, slate.bytes, 0)
        {
            let _ = self.settle_many(times, results, book);
        }
        let report = self.report();
        let cause = match self.condition {
            // It may have been about to die of itself.
            Condition::Doomed { why: Reason::LineClosed, .. } if !is_kill(status) => {
                Cause::of(status, &report)
            }
            Condition::Doomed { why, .. } => Cause::Killed(why),
            _ => Cause::of(status, &report),
        };
        if self.running().is_some() || !self.is_ready() {
            book.stats.died(&cause);
        }
        if self.running().is_some() {
            let started = self.line.control().started();
            let ran = control::now().saturating_sub(started);
            let error = match cause {
                Cause::Killed(Reason::TimedOut) => TaskError::TimedOut,
                Cause::Killed(Reason::Deadline) => TaskError::DeadlinePassed,
                Cause::Killed(Reason::Cancelled) => TaskError::Cancelled,
                cause => TaskError::WorkerDied { cause, report: Box::new(report) },
            };
            self.settle_next(Times { started, ran }, Err(error), book);
        }
        self.take_all_back()
    }

    fn report(&self) -> Report {
        let [stderr, stdout] = &self.outputs;
        // One of an earlier task was survived: a handler of the program's own mended it.
        let crash = self.line.crash().filter(|crash| self.running().is_none_or(|task| task == crash.mark()));
        Report { pid: self.by.pid, stderr: stderr.tail(), stdout: stdout.tail(), backtrace: crash }
    }

    /// Closes the line, so that the worker leaves.
    pub(crate) fn let_go(self) -> (Arc<Process<()>>, [Output; 2]) {
        (self.process, self.outputs)
    }

    /// All jobs, for a pool that is terminated.
    pub(crate) fn take_jobs(&mut self) -> impl Iterator<Item = Job> {
        self.load = 0;
        std::mem::take(&mut self.jobs).into_iter().map(|in_flight| in_flight.job)
    }
}

/// Whether it was ended by SIGKILL.
fn is_kill(status: ExitStatus) -> bool {
    matches!(status, ExitStatus::Signal { number: 9, .. })
}

/// A process's resident memory in bytes, where the system tells.
fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn write_error(error: WriteError) -> TaskError {
    TaskError::Io(match error {
        WriteError::Io(error) => error,
        WriteError::TooLong => io::Error::new(io::ErrorKind::InvalidInput, "more than a message can hold"),
        WriteError::Full => io::ErrorKind::WouldBlock.into(),
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The first `length` bytes of `record`: the buffer itself where they fill it, else a copy.
fn keep(record: &mut Vec<u8>, length: usize) -> Vec<u8> {
    if length < LARGE || record.capacity() / 2 > length {
        return record[..length].to_vec();
    }
    let mut bytes = std::mem::take(record);
    bytes.truncate(length);
    bytes
}

/// What a record stands for that is no result.
fn error_of(outcome: u8, encoding: Encoding, bytes: &[u8]) -> TaskError {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match outcome {
        kind::PANICKED => {
            let panic: Result<Panic, _> = wire::decode(encoding, Cow::Borrowed(bytes), Vec::new());
            panic.map_or_else(TaskError::Undecodable, TaskError::Panicked)
        }
        kind::ARGUMENTS => TaskError::Arguments(text()),
        kind::UNENCODABLE => TaskError::Unencodable(text()),
        kind::UNKNOWN => TaskError::UnknownFunction,
        _ => TaskError::Io(invalid("a record of no known kind")),
    }
}
