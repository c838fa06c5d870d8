//! A seat of the pool: one worker process, its line, and the jobs that were sent to it, in order.

use crate::control::ENTRIES;
use crate::error::{Cause, TaskError};
use crate::job::{Item, Job, Raw, kind};
use crate::line::Line;
use crate::worker::{self, HEAD, Initializer};
use mp_core::{Encoding, wire};
use mp_pipe::ring::WriteError;
use mp_process::{Builder, ExitStatus, Panic, Process, SpawnError, Stdio};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::process::ChildStderr;
use std::time::{Duration, Instant};

/// How much of the last words on standard error is kept.
const TAIL: usize = 4 << 10;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) process: Builder,
    pub(crate) initializer: Initializer,
}

/// A job at a worker.
#[derive(Debug)]
struct InFlight {
    entry: u8,
    generation: u16,
    job: Job,
    /// How many of its items have been settled.
    settled: u32,
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Started, and running its initializer.
    Starting,
    Ready,
    /// Being killed since then, because its task ran too long.
    TimedOut(Instant),
}

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) process: Process<()>,
    pub(crate) line: Line,
    pub(crate) condition: Condition,
    stderr: Option<ChildStderr>,
    tail: Vec<u8>,
    jobs: VecDeque<InFlight>,
    next_entry: u8,
    generation: u16,
}

/// What a record of the worker was.
pub(crate) enum News {
    Settled,
    Ready,
    Broken(String),
}

impl Seat {
    pub(crate) fn start(recipe: &Recipe) -> Result<Seat, SpawnError> {
        let (line, end) = Line::pair()?;
        let mut builder = recipe.process.clone().daemon(true).stderr(Stdio::Piped);
        builder = builder.core_dump(false);
        let mut process = builder.spawn(worker::work, (end, recipe.initializer.clone()))?;
        let stderr = process.take_stderr();
        if let Some(stderr) = &stderr {
            rustix::io::ioctl_fionbio(stderr, true).map_err(io::Error::from)?;
        }
        Ok(Seat {
            process,
            line,
            condition: Condition::Starting,
            stderr,
            tail: Vec::new(),
            jobs: VecDeque::new(),
            next_entry: 0,
            generation: 0,
        })
    }

    /// How many items are there that are not settled.
    pub(crate) fn load(&self) -> usize {
        self.jobs.iter().map(|job| job.job.items.len() - job.settled as usize).sum()
    }

    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Sends `job`; gives it back when the line has no room now, or the kernel no budget for its handles.
    pub(crate) fn send(&mut self, job: Job, scratch: &mut Vec<u8>) -> Result<(), Refused> {
        if self.jobs.len() >= ENTRIES {
            return Err(Refused::Later(job));
        }
        let (entry, generation) = (self.next_entry, self.generation);
        if let Err(error) = job.encode(entry, generation, scratch) {
            return Err(Refused::Never(job, Box::new(error)));
        }
        let items = u32::try_from(job.items.len()).unwrap_or(u32::MAX);
        self.line.control().offer(entry.into(), generation, items);
        let fds: Vec<_> = job.items.iter().flat_map(|item| &item.handles).map(AsFd::as_fd).collect();
        let written = self.line.try_write(kind::JOB, scratch, &fds);
        drop(fds);
        match written {
            Ok(true) => {}
            Ok(false) => return Err(Refused::Later(job)),
            Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(Refused::Later(job));
            }
            Err(error) => return Err(Refused::Never(job, Box::new(write_error(error)))),
        }
        self.next_entry = (entry + 1) % ENTRIES_U8;
        if self.next_entry == 0 {
            self.generation = generation.wrapping_add(1);
        }
        self.jobs.push_back(InFlight { entry, generation, job, settled: 0 });
        Ok(())
    }

    /// Reads one record of the worker, if there is one.
    pub(crate) fn read(&mut self, scratch: &mut Vec<u8>) -> io::Result<Option<News>> {
        scratch.clear();
        let Some(incoming) = self.line.try_read(scratch)? else { return Ok(None) };
        match incoming.kind {
            kind::READY => {
                self.condition = Condition::Ready;
                return Ok(Some(News::Ready));
            }
            kind::BROKEN => {
                let text = scratch.get(HEAD..).unwrap_or_default();
                return Ok(Some(News::Broken(String::from_utf8_lossy(text).into_owned())));
            }
            _ => {}
        }
        if let Some(item) = self.next_item() {
            item.sink.settle(result(incoming.kind, scratch, incoming.handles));
        }
        Ok(Some(News::Settled))
    }

    /// The item whose result comes next: items run in order.
    fn next_item(&mut self) -> Option<Item> {
        let first = self.jobs.front_mut()?;
        first.settled += 1;
        let index = first.settled as usize - 1;
        let last = first.settled as usize >= first.job.items.len();
        let item = std::mem::replace(first.job.items.get_mut(index)?, Item::settled());
        if last {
            self.jobs.pop_front();
        }
        Some(item)
    }

    /// Takes back what has not started of the last jobs, for a worker that has nothing to do.
    pub(crate) fn give_up_unstarted(&mut self) -> Option<Job> {
        let last = self.jobs.back()?;
        let claim = self.line.control().revoke(last.entry.into(), |_| 0);
        if claim.next > 0 || last.settled > 0 {
            // It has started: only its unstarted items are free, and those were just taken back.
            let in_flight = self.jobs.back_mut()?;
            let items = in_flight.job.items.split_off((claim.next as usize).min(in_flight.job.items.len()));
            let job = Job { routine: in_flight.job.routine.clone(), timeout: in_flight.job.timeout, items };
            if in_flight.settled as usize >= in_flight.job.items.len() {
                self.jobs.pop_back();
            }
            return (!job.items.is_empty()).then_some(job);
        }
        self.jobs.pop_back().map(|in_flight| in_flight.job)
    }

    /// When the task that runs has to be killed, as far as can be known now; a look at that time tells whether it is so.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.condition {
            Condition::TimedOut(since) => return Some(since + GRACE),
            Condition::Starting => return None,
            Condition::Ready => {}
        }
        let first = self.jobs.front()?;
        let timeout = first.job.timeout?;
        let claim = self.line.control().look(first.entry.into());
        let running = claim.generation == first.generation && claim.next > first.settled;
        if !running {
            // It starts later, so it ends later.
            return now.checked_add(timeout);
        }
        let started = self.line.control().started();
        let elapsed = Duration::from_nanos(crate::control::now().saturating_sub(started));
        now.checked_add(timeout.saturating_sub(elapsed))
    }

    /// Its task has run too long: asks the worker to end, and after a grace ends it.
    pub(crate) fn time_out(&mut self) {
        // Fails only when it has ended, which is what is wanted.
        match self.condition {
            Condition::TimedOut(_) => drop(self.process.kill()),
            Condition::Starting | Condition::Ready => {
                self.condition = Condition::TimedOut(Instant::now());
                let _ = self.process.terminate();
            }
        }
    }

    /// The worker has ended with `status`, and its line was read out: the item that ran gets its error, and what has not started comes back.
    pub(crate) fn bury(&mut self, status: ExitStatus) -> Vec<Job> {
        self.forward_stderr();
        let tail = String::from_utf8_lossy(&self.tail).into_owned();
        let mut back = Vec::new();
        for mut in_flight in std::mem::take(&mut self.jobs) {
            let claim = self.line.control().look(in_flight.entry.into());
            let started = if claim.generation == in_flight.generation { claim.next } else { 0 };
            let settled = in_flight.settled as usize;
            let mut items = in_flight.job.items.split_off(settled.min(in_flight.job.items.len())).into_iter();
            if started as usize > settled
                && let Some(item) = items.next()
            {
                item.sink.settle(Err(self.death(status, &tail)));
            }
            let items: Vec<Item> = items.collect();
            if !items.is_empty() {
                back.push(Job { items, ..in_flight.job });
            }
        }
        back
    }

    fn death(&self, status: ExitStatus, tail: &str) -> TaskError {
        match self.condition {
            Condition::TimedOut(_) => TaskError::TimedOut,
            _ => TaskError::WorkerDied { cause: Cause::of(status, tail), stderr: tail.to_owned() },
        }
    }

    /// All jobs, for a pool that is terminated.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        let jobs = std::mem::take(&mut self.jobs);
        jobs.into_iter()
            .map(|mut in_flight| {
                let settled = (in_flight.settled as usize).min(in_flight.job.items.len());
                in_flight.job.items.drain(..settled);
                in_flight.job
            })
            .collect()
    }

    pub(crate) fn stderr(&self) -> Option<&ChildStderr> {
        self.stderr.as_ref()
    }

    /// Passes on what the worker wrote to standard error, keeping the end of it. Never blocks: what this process's own standard error
    /// does not take now stays in the worker's pipe.
    pub(crate) fn forward_stderr(&mut self) {
        forward(&mut self.stderr, &mut self.tail);
    }

    /// Closes the line: the worker ends once it sees that.
    pub(crate) fn let_go(self) -> Leaving {
        Leaving { process: self.process, stderr: self.stderr, tail: Vec::new() }
    }
}

/// A worker without a line.
#[derive(Debug)]
pub(crate) struct Leaving {
    process: Process<()>,
    stderr: Option<ChildStderr>,
    tail: Vec<u8>,
}

impl Leaving {
    /// Waits at most `patience` for its end, then ends it.
    pub(crate) fn end(mut self, patience: Duration) {
        if !matches!(self.process.wait_timeout(patience), Ok(Some(_))) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        forward(&mut self.stderr, &mut self.tail);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "64")]
const ENTRIES_U8: u8 = ENTRIES as u8;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_millis(200);

/// Why a job was not sent.
pub(crate) enum Refused {
    /// The line is full, or the worker about to be buried.
    Later(Job),
    /// It cannot be sent to any worker.
    Never(Job, Box<TaskError>),
}

fn write_error(error: WriteError) -> TaskError {
    TaskError::Io(match error {
        WriteError::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    })
}

/// Reads what there is, passes it on, and keeps the end of it in `tail`.
fn forward(source: &mut Option<ChildStderr>, tail: &mut Vec<u8>) {
    let Some(stderr) = source else { return };
    let mut bytes = [0; TAIL];
    let mut ended = false;
    // Bounded, so that one that writes without end does not keep the pool from its work.
    for _ in 0..16 {
        match rustix::io::read(&*stderr, &mut bytes) {
            Ok(0) => ended = true,
            Ok(read) => {
                pass_on(&bytes[..read]);
                tail.extend(&bytes[..read]);
                let surplus = tail.len().saturating_sub(TAIL);
                tail.drain(..surplus);
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => {}
        }
        break;
    }
    if ended {
        *source = None;
    }
}

/// Writes to this process's standard error what it takes at once.
fn pass_on(bytes: &[u8]) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Writable means room for as many bytes as are read at once.
    if poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0) {
        use std::io::Write;
        let _ = stderr.lock().write_all(bytes);
    }
}

/// The result that a record stands for.
fn result(
    outcome: u8,
    record: &[u8],
    handles: io::Result<Vec<std::os::fd::OwnedFd>>,
) -> Result<Raw, TaskError> {
    let Some((encoding, bytes)) = record.split_first() else {
        return Err(TaskError::Io(io::Error::new(io::ErrorKind::InvalidData, "a result without a head")));
    };
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match outcome {
        kind::RETURNED => {
            let handles = handles.map_err(TaskError::Io)?;
            Ok(Raw { encoding: Encoding(*encoding), bytes: bytes.to_vec(), handles })
        }
        kind::PANICKED => {
            let panic: Result<Panic, _> = wire::decode(Encoding(*encoding), Cow::Borrowed(bytes), Vec::new());
            Err(panic.map_or_else(TaskError::Undecodable, TaskError::Panicked))
        }
        kind::ARGUMENTS => Err(TaskError::Arguments(text())),
        kind::UNENCODABLE => Err(TaskError::Unencodable(text())),
        kind::UNKNOWN => Err(TaskError::UnknownFunction),
        _ => Err(TaskError::Io(io::Error::new(io::ErrorKind::InvalidData, "a record of no known kind"))),
    }
}
