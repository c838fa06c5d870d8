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

use crate::control::{self, Claim, ENTRIES};
use crate::error::{Cause, TaskError};
use crate::job::{Item, Job, Raw, kind};
use crate::line::Line;
use crate::stderr::Stderr;
use crate::worker::{self, HEAD, Initializer};
use mp_core::{Encoding, wire};
use mp_pipe::ring::WriteError;
use mp_process::{Builder, ExitStatus, Panic, Process, SpawnError, Stdio};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A ready worker that has not begun with a job that has a time-out after so long is stopped or stuck.
const STALLED: Duration = Duration::from_secs(10);

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) process: Builder,
    pub(crate) initializer: Initializer,
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

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
    Doomed { since: Instant, killed: bool, timed_out: bool },
}

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) process: Process<()>,
    pub(crate) line: Line,
    pub(crate) condition: Condition,
    pub(crate) stderr: Stderr,
    grace: Duration,
    jobs: VecDeque<InFlight>,
    /// How many items of `jobs` have no result.
    load: usize,
    /// Since when the first job is the first.
    first_since: Instant,
    /// One bit for each entry of the control block that belongs to a job.
    used: u64,
    generations: [u16; ENTRIES],
    /// Found full since the line was last looked at by a sleeper.
    pub(crate) full: bool,
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
    pub(crate) fn start(recipe: &Recipe) -> Result<Seat, SpawnError> {
        let (line, end) = Line::pair()?;
        let builder = recipe.process.clone().daemon(true).core_dump(false).stderr(Stdio::Piped);
        let mut process = builder.spawn(worker::work, (end, recipe.initializer.clone()))?;
        let stderr = Stderr::new(process.take_stderr())?;
        Ok(Seat {
            process,
            line,
            condition: Condition::Starting,
            stderr,
            grace: recipe.grace,
            jobs: VecDeque::new(),
            load: 0,
            first_since: Instant::now(),
            used: 0,
            generations: [0; ENTRIES],
            full: false,
        })
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
        self.line.has_message() || (self.full && self.line.has_room_since_refused())
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
        let fds: Vec<_> = job.items.iter().flat_map(|item| &item.handles).map(AsFd::as_fd).collect();
        let written = self.line.try_write(kind::JOB, scratch, &fds);
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
        if self.jobs.is_empty() {
            self.first_since = Instant::now();
        }
        job.items.iter_mut().for_each(Item::sent);
        self.jobs.push_back(InFlight { entry, generation, job, settled: 0 });
        Ok(())
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
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> io::Result<Option<News>> {
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
        let item = self.next_item().ok_or_else(|| invalid("a result that belongs to no item"))?;
        item.receipt.settle(result(incoming.kind, scratch, incoming.handles));
        Ok(Some(News::Settled))
    }

    /// The item whose result comes next.
    fn next_item(&mut self) -> Option<Item> {
        let first = self.jobs.front_mut()?;
        let item = first.job.items.pop_front()?;
        first.settled += 1;
        self.load -= 1;
        if first.job.items.is_empty() {
            self.remove(0);
        }
        Some(item)
    }

    /// Takes job `index` out, which has no items left or none that may start.
    fn remove(&mut self, index: usize) -> Option<Job> {
        let InFlight { entry, job, .. } = self.jobs.remove(index)?;
        self.used &= !(1 << entry);
        self.load -= job.items.len();
        if index == 0 {
            self.first_since = Instant::now();
        }
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
        Some(taken)
    }

    /// How many items could be given to a worker that has nothing to do.
    pub(crate) fn surplus(&self) -> usize {
        let running = usize::from(self.claim(0).is_some_and(|claim| claim.next > 0));
        // One that it is just about to start is its own.
        self.load.saturating_sub(running.max(1))
    }

    /// Gives away the last job, or half of what has not started of the only one.
    pub(crate) fn give_surplus(&mut self) -> Option<Job> {
        match self.jobs.len() {
            0 => None,
            1 => {
                let started = self.claim(0).is_some_and(|claim| claim.next > 0);
                self.take_back(0, |open| if started { open / 2 } else { open.div_ceil(2) })
            }
            jobs => self.take_back(jobs - 1, |_| 0),
        }
    }

    /// Takes back everything that has not started.
    fn take_all_back(&mut self) -> Vec<Job> {
        let back = (0..self.jobs.len()).rev().filter_map(|index| self.take_back(index, |_| 0));
        let mut back: Vec<Job> = back.collect();
        back.reverse();
        back
    }

    /// Takes back what nobody wants any more.
    pub(crate) fn take_unwanted(&mut self) -> Vec<Job> {
        let all: Vec<usize> = (0..self.jobs.len()).rev().collect();
        let unwanted =
            all.into_iter().filter(|index| self.jobs[*index].job.is_unwanted()).collect::<Vec<_>>();
        unwanted.into_iter().filter_map(|index| self.take_back(index, |_| 0)).collect()
    }

    /// For how long the running item has run beyond its time-out; zero or less while it has not.
    fn overdue(&self) -> Option<Overdue> {
        let first = self.jobs.front()?;
        let timeout = first.job.timeout?;
        if self.claim(0).is_none_or(|claim| claim.next <= first.settled) {
            return Some(Overdue::NotStarted(timeout));
        }
        let ran = Duration::from_nanos(control::now().saturating_sub(self.line.control().started()));
        Some(Overdue::In(timeout.saturating_sub(ran)))
    }

    /// When to look at this worker's time again.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.condition {
            Condition::Starting => return None,
            Condition::Doomed { killed: true, .. } => return None,
            Condition::Doomed { since, .. } => return since.checked_add(self.grace),
            Condition::Ready => {}
        }
        match self.overdue()? {
            Overdue::In(left) => now.checked_add(left),
            Overdue::NotStarted(timeout) => {
                let stalled = self.first_since.checked_add(STALLED.max(timeout))?;
                let look = self.first_since.checked_add(timeout)?.max(now.checked_add(timeout.min(STALLED))?);
                Some(look.min(stalled))
            }
        }
    }

    /// Its time is over, if it is: gives back what has not started, and ends the worker step by step.
    pub(crate) fn keep_time(&mut self, now: Instant, scratch: &mut Vec<u8>) -> Vec<Job> {
        match self.condition {
            Condition::Starting | Condition::Doomed { killed: true, .. } => Vec::new(),
            Condition::Doomed { since, killed: false, timed_out } => {
                if now.saturating_duration_since(since) >= self.grace {
                    self.condition = Condition::Doomed { since, killed: true, timed_out };
                    // Fails only when it has ended, which is what is wanted.
                    let _ = self.process.kill();
                }
                Vec::new()
            }
            Condition::Ready => match self.overdue() {
                Some(Overdue::In(Duration::ZERO)) => self.time_out(now, scratch),
                Some(Overdue::NotStarted(timeout))
                    if now.saturating_duration_since(self.first_since) >= STALLED.max(timeout) =>
                {
                    self.give_up_on(now)
                }
                _ => Vec::new(),
            },
        }
    }

    /// The item that runs has run too long. It may end right now, and another may start: first nothing more may.
    fn time_out(&mut self, now: Instant, scratch: &mut Vec<u8>) -> Vec<Job> {
        let back = self.take_all_back();
        while matches!(self.read(scratch), Ok(Some(_))) {}
        if matches!(self.overdue(), Some(Overdue::In(Duration::ZERO))) {
            self.doom(now, true);
        }
        back
    }

    /// It does not start what it was sent: stopped, or stuck.
    fn give_up_on(&mut self, now: Instant) -> Vec<Job> {
        let back = self.take_all_back();
        if self.jobs.is_empty() {
            self.doom(now, false);
        }
        back
    }

    /// Ends the worker: SIGTERM now, SIGKILL after the grace.
    pub(crate) fn doom(&mut self, now: Instant, timed_out: bool) {
        let killed = self.grace.is_zero();
        self.condition = Condition::Doomed { since: now, killed, timed_out };
        // Fails only when it has ended, which is what is wanted.
        let _ = if killed { self.process.kill() } else { self.process.terminate() };
    }

    /// The worker has ended with `status`, and its line was read out: the item that ran gets its error, and what has not started
    /// comes back.
    pub(crate) fn bury(&mut self, status: ExitStatus) -> Vec<Job> {
        if let Some(running) = self.jobs.front()
            && self.claim(0).is_some_and(|claim| claim.next > running.settled)
            && let Some(item) = self.next_item()
        {
            item.receipt.settle(Err(self.death(status)));
        }
        self.take_all_back()
    }

    fn death(&self, status: ExitStatus) -> TaskError {
        if let Condition::Doomed { timed_out: true, .. } = self.condition {
            return TaskError::TimedOut;
        }
        let stderr = self.stderr.tail();
        TaskError::WorkerDied { cause: Cause::of(status, &stderr), stderr }
    }

    /// Closes the line, so that the worker leaves.
    pub(crate) fn let_go(self) -> (Process<()>, Stderr) {
        (self.process, self.stderr)
    }

    /// All jobs, for a pool that is terminated.
    pub(crate) fn take_jobs(&mut self) -> impl Iterator<Item = Job> {
        self.load = 0;
        std::mem::take(&mut self.jobs).into_iter().map(|in_flight| in_flight.job)
    }
}

/// How an item stands to its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// It has not started; this is what it may take.
    NotStarted(Duration),
    /// So much time is left.
    In(Duration),
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

/// The result that a record stands for.
fn result(outcome: u8, record: &[u8], handles: io::Result<Vec<OwnedFd>>) -> Result<Raw, TaskError> {
    let Some((head, bytes)) = record.split_at_checked(HEAD) else {
        return Err(TaskError::Io(invalid("a result without a head")));
    };
    let encoding = Encoding(head[0]);
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match outcome {
        kind::RETURNED => {
            let handles = handles.map_err(TaskError::Io)?;
            Ok(Raw { encoding, bytes: bytes.to_vec(), handles })
        }
        kind::PANICKED => {
            let panic: Result<Panic, _> = wire::decode(encoding, Cow::Borrowed(bytes), Vec::new());
            Err(panic.map_or_else(TaskError::Undecodable, TaskError::Panicked))
        }
        kind::ARGUMENTS => Err(TaskError::Arguments(text())),
        kind::UNENCODABLE => Err(TaskError::Unencodable(text())),
        kind::UNKNOWN => Err(TaskError::UnknownFunction),
        _ => Err(TaskError::Io(invalid("a record of no known kind"))),
    }
}
