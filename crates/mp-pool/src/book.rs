//! Where each ended task is entered: settled, or put aside to be tried again, counted, and told to those who listen.

use crate::attend::Beat;
use crate::error::TaskError;
use crate::job::{Item, Items, Job, Raw, Wish};
use crate::observe::{Event, Observer};
use crate::pack::Packed;
use crate::stats::Stats;
use mp_core::park;
use std::collections::BTreeMap;
use std::time::Instant;

/// When the worker began with an item, and for how long it ran, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) started: u64,
    pub(crate) ran: u64,
}

/// Who ran an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    pub(crate) worker: usize,
    pub(crate) pid: u32,
}

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) stats: Stats,
    pub(crate) beat: Beat,
    observer: Option<Observer>,
    /// Jobs of one item that are tried again, by when, and in the order in which they failed.
    retries: BTreeMap<(Instant, u64), Job>,
    failures: u64,
}

impl Book {
    pub(crate) fn new(observer: Option<Observer>) -> Book {
        Book {
            stats: Stats::default(),
            beat: Beat::default(),
            observer,
            retries: BTreeMap::new(),
            failures: 0,
        }
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.observer {
            observer.tell(event());
        }
    }

    /// `item`, one of `job`'s, has run and ended with `result`.
    pub(crate) fn close(
        &mut self,
        job: &Job,
        item: Item,
        by: By,
        times: Times,
        result: Result<Raw, TaskError>,
    ) {
        self.stats.wait.add(times.started.saturating_sub(job.born));
        self.stats.run.add(times.ran);
        self.beat.note(times.ran);
        if let Some(observer) = &self.observer {
            let error = result.as_ref().err().map(ToString::to_string);
            let (function, Times { started, ran }, born) = (job.function.name, times, job.born);
            let (worker, pid) = (by.worker, by.pid);
            observer.tell(Event::Ran { function, worker, pid, born, started, ran, error });
        }
        match result {
            Ok(raw) if item.receipt.wish() != Wish::Cancelled => {
                self.stats.succeeded += 1;
                item.receipt.settle(Ok(raw));
            }
            // It was cancelled in time, whether or not it noticed.
            Ok(_) => {
                self.stats.failed += 1;
                item.receipt.settle(Err(TaskError::Cancelled));
            }
            Err(error) => self.close_failed(job, item, error),
        }
    }

    /// The first items of `job`'s pack have run, for `times.ran` together, and returned `results`; `before` of it had theirs already.
    pub(crate) fn close_many(&mut self, job: &mut Job, before: u32, by: By, times: Times, results: Packed) {
        let Items::Packed(pack) = &mut job.items else { return };
        let (items, count) = (results.count, results.count as u64);
        let each = times.ran / count.max(1);
        pack.block.pace.note(items, times.ran);
        // What the worker is given next is wanted when it has done all of it, however often it tells how far it is.
        let whole = u64::from(before) + pack.len() as u64;
        self.beat.note(times.ran.saturating_mul(whole) / count.max(1));
        self.stats.wait.add_many(times.started.saturating_sub(job.born), count);
        self.stats.run.add_many(each, count);
        if let Some(observer) = &self.observer {
            let (function, born, By { worker, pid }) = (job.function.name, job.born, by);
            for item in 0..count {
                let started = times.started + item * each;
                observer.tell(Event::Ran { function, worker, pid, born, started, ran: each, error: None });
            }
        }
        if pack.wish() == Wish::Cancelled {
            self.stats.failed += count;
            pack.fail(items, || TaskError::Cancelled);
        } else {
            self.stats.succeeded += count;
            pack.settle(results);
        }
    }

    fn close_failed(&mut self, job: &Job, mut item: Item, error: TaskError) {
        if item.receipt.wish() == Wish::Wanted
            && let Some(pause) = job.terms.retry.next(item.attempts.len() + 1, &error, park::ticks())
        {
            let due = Instant::now() + pause;
            if job.terms.deadline.is_none_or(|deadline| due < deadline) {
                item.attempts.push(error);
                self.stats.retried += 1;
                // It has started before, so its queue time-out is met.
                let again = Job { start_by: job.terms.deadline, ..job.with([item]) };
                self.failures += 1;
                self.retries.insert((due, self.failures), again);
                return;
            }
        }
        self.stats.failed += 1;
        let error = if item.receipt.wish() == Wish::Cancelled { TaskError::Cancelled } else { error };
        let died_of_it =
            matches!(error, TaskError::WorkerDied { .. } | TaskError::TimedOut | TaskError::Panicked(_));
        let error = if job.terms.retry.is_some() && died_of_it && !item.attempts.is_empty() {
            let mut attempts = std::mem::take(&mut item.attempts);
            attempts.push(error);
            TaskError::Poison { function: job.function.name, attempts }
        } else {
            error
        };
        item.receipt.settle(Err(error));
    }

    /// The jobs whose pause is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Job> {
        let later = self.retries.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.retries, later).into_values().collect()
    }

    /// When the next pause is over.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.retries.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many tasks wait for another try.
    pub(crate) fn pausing(&self) -> usize {
        self.retries.len()
    }

    /// All of them, which are not tried again.
    pub(crate) fn take_retries(&mut self) -> impl Iterator<Item = Job> + use<> {
        std::mem::take(&mut self.retries).into_values()
    }

    /// Jobs that nobody wants, or whose time is over, need no second try.
    pub(crate) fn drop_unwanted(&mut self, now: Instant) {
        self.retries.retain(|_, job| job.wish() == Wish::Wanted);
        let (over, wanted) =
            std::mem::take(&mut self.retries).into_iter().partition(|(_, job)| job.expired(now).is_some());
        self.retries = wanted;
        let over: BTreeMap<_, Job> = over;
        over.into_values().for_each(|job| self.expire(job, now));
    }

    /// `job` has not started in time.
    pub(crate) fn expire(&mut self, job: Job, now: Instant) {
        self.stats.failed += job.items.len() as u64;
        let deadline = job.terms.deadline.is_some_and(|deadline| deadline <= now);
        job.fail(|| if deadline { TaskError::DeadlinePassed } else { TaskError::QueueTimedOut });
    }
}
