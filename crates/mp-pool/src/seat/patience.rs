//! How long a worker may take: until it is ready, to begin with what it was sent, to run it, to stop, to die.
//!
//! | a worker | for | what happens |
//! | --- | --- | --- |
//! | is not ready | the start time-out | SIGKILL; it counts as one that failed to start |
//! | runs an item | its time-out, or past its deadline | the rest comes back; SIGTERM, and SIGKILL after the grace |
//! | was asked to stop, and runs still | the grace | as above |
//! | does not begin with its first job | `STALLED` | *stalled*: what may run elsewhere comes back, it is sent nothing more |
//! | is stalled, and reads again | | it is as good as any other |
//! | is stalled still, though not for want of a processor, and work waits that it might do | `STALLED` more | SIGTERM, and SIGKILL after the grace; it is replaced |
//! | has hung up its line, and lives | `HUNG_UP` | SIGKILL |
//! | has hung up its line, and is dying, by what the system says | `DYING` | nothing before that: its death says why |
//!
//! Whoever is stopped by Ctrl-Z together with the pool finds all of these times over when it goes on: so it is given a second one
//! before it is replaced, and nothing that has started is ever touched for want of a beginning. What comes back was taken by
//! the CAS that a claim is: it has not started, and never will there.

use super::{Condition, Seat};
use crate::book::Book;
use crate::control;
use crate::error::Reason;
use crate::job::Job;
use crate::terms::Place;
use std::fs;
use std::time::{Duration, Instant};

/// A ready worker that does not begin with what it was sent in so long is stopped or stuck.
pub(crate) const STALLED: Duration = Duration::from_secs(2);
/// Who has hung up is about to be dead.
const HUNG_UP: Duration = Duration::from_millis(100);
/// Where much else runs, what is left of a dying process may have to wait for its turn.
const DYING: Duration = Duration::from_secs(5);

/// How long a worker has taken so far, where that is not in its jobs.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// The job that was first and did not run when it was looked at: entry, generation, items settled; and when that was.
    unstarted: Option<((usize, u16, u32), Instant)>,
    /// It is stalled, since when, and how many records it had read then.
    stalled: Option<(Instant, u64)>,
    /// It has hung up: when that was last looked into, and when it was seen, in nanoseconds of the monotonic clock.
    hung_up: Option<(Instant, u64)>,
}

impl Seat {
    /// How long the first item may run on, and why not longer; `None` when it does not run, or for as long as it takes.
    fn left(&self, now: Instant) -> Option<(Duration, Reason)> {
        self.running()?;
        let terms = &self.jobs.front()?.job.terms;
        let ran = Duration::from_nanos(control::now().saturating_sub(self.line.control().started()));
        let timeout = terms.timeout.map(|timeout| (timeout.saturating_sub(ran), Reason::TimedOut));
        let deadline = terms.deadline.map(|at| (at.saturating_duration_since(now), Reason::Deadline));
        [timeout, deadline].into_iter().flatten().min_by_key(|(left, _)| *left)
    }

    /// When to look at this worker's time again.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let hung_up = self.patience.hung_up.and_then(|(since, _)| since.checked_add(HUNG_UP));
        let condition = match self.condition {
            Condition::Starting => self.start_timeout.and_then(|most| self.born.checked_add(most)),
            Condition::Doomed { killed: true, .. } => return None,
            Condition::Doomed { since, .. } => since.checked_add(self.grace),
            Condition::Ready => self.ready_deadline(now),
        };
        [hung_up, condition].into_iter().flatten().min()
    }

    fn ready_deadline(&self, now: Instant) -> Option<Instant> {
        let asked = self.asked.and_then(|(_, since)| since.checked_add(self.grace));
        let runs = usize::from(self.running().is_some());
        let waiting = self.jobs.iter().skip(runs).filter_map(|job| job.job.start_by).min();
        let over = match self.left(now) {
            Some((left, _)) => now.checked_add(left),
            // It may begin at any moment, and nobody says so.
            None => self.unstarted_timeout().and_then(|timeout| now.checked_add(timeout)),
        };
        let begun = self.unstarted().filter(|_| !self.is_stalled()).and_then(|mark| {
            let since = self.patience.unstarted.filter(|(known, _)| *known == mark).map_or(now, |(_, at)| at);
            since.checked_add(self.may_take_to_begin())
        });
        [asked, waiting, over, begun, self.used_up_at()].into_iter().flatten().min()
    }

    /// Its time is over, if it is: gives back what has not started, and ends the worker step by step.
    pub(crate) fn keep_time(&mut self, now: Instant, scratch: &mut Vec<u8>, book: &mut Book) -> Vec<Job> {
        if let Some((since, seen)) = self.patience.hung_up
            && now.saturating_duration_since(since) >= HUNG_UP
        {
            self.end_unreachable(now, seen);
        }
        match self.condition {
            Condition::Starting => {
                if self.start_timeout.is_some_and(|most| now.saturating_duration_since(self.born) >= most) {
                    // It counts as one that ended before it was ready, so nothing but its life is changed here.
                    self.start_timeout = None;
                    let _ = self.process.kill();
                }
                Vec::new()
            }
            Condition::Doomed { killed: true, .. } => Vec::new(),
            Condition::Doomed { since, killed: false, why } => {
                if now.saturating_duration_since(since) >= self.grace {
                    self.condition = Condition::Doomed { since, killed: true, why };
                    // Fails only when it has ended, which is what is wanted.
                    let _ = self.process.kill();
                }
                Vec::new()
            }
            Condition::Ready => {
                if let Some((_, since)) = self.asked
                    && now.saturating_duration_since(since) >= self.grace
                {
                    return self.stop(now, scratch, book);
                }
                match self.left(now) {
                    Some((Duration::ZERO, _)) => self.time_out(now, scratch, book),
                    _ => self.take_from_stalled(now),
                }
            }
        }
    }

    /// The item that runs has run too long. It may end right now, and another may start: first nothing more may.
    fn time_out(&mut self, now: Instant, scratch: &mut Vec<u8>, book: &mut Book) -> Vec<Job> {
        let back = self.take_all_back();
        while matches!(self.read(scratch, book), Ok(Some(_))) {}
        if let Some((Duration::ZERO, why)) = self.left(now) {
            self.doom(now, why);
        }
        back
    }

    /// What was asked to stop has not: as for a time-out.
    fn stop(&mut self, now: Instant, scratch: &mut Vec<u8>, book: &mut Book) -> Vec<Job> {
        let back = self.take_all_back();
        while matches!(self.read(scratch, book), Ok(Some(_))) {}
        if self.asked.is_some_and(|(number, _)| self.running() == Some(number)) {
            self.doom(now, Reason::Cancelled);
        } else {
            self.asked = None;
        }
        back
    }

    /// The first job, if none of it runs.
    fn unstarted(&self) -> Option<(usize, u16, u32)> {
        let first = self.jobs.front().filter(|_| self.running().is_none())?;
        Some((first.entry, first.generation, first.settled))
    }

    /// How long the first item may take, if it does not run yet but may begin; never so short that looking would be all there is to do.
    fn unstarted_timeout(&self) -> Option<Duration> {
        self.unstarted().filter(|_| !self.is_stalled())?;
        let timeout = self.jobs.front()?.job.terms.timeout?;
        Some(timeout.max(Duration::from_millis(1)))
    }

    /// A job that nobody has begun with before is given more time each time: it may be large, and the machine slow.
    fn may_take_to_begin(&self) -> Duration {
        STALLED * (1 << self.jobs.front().map_or(0, |first| first.job.stalled.min(6)))
    }

    /// It does not begin with its first job: what may run elsewhere is taken back.
    fn take_from_stalled(&mut self, now: Instant) -> Vec<Job> {
        let mark = self.unstarted();
        let known = self.patience.unstarted.filter(|(known, _)| Some(*known) == mark);
        self.patience.unstarted = mark.map(|mark| known.unwrap_or((mark, now)));
        let over =
            known.is_some_and(|(_, since)| now.saturating_duration_since(since) >= self.may_take_to_begin());
        if !over || self.is_stalled() {
            return Vec::new();
        }
        self.patience.stalled = Some((now, self.line.taken()));
        let mut back = self.take_back_unless(|job| job.terms.place != Place::Anywhere);
        back.reverse();
        if let Some(first) = back.first_mut() {
            first.stalled = first.stalled.saturating_add(1);
        }
        back
    }

    /// Whether it has not begun with what it was sent in a long time.
    pub(crate) fn is_stalled(&self) -> bool {
        self.patience.stalled.is_some()
    }

    /// Whether it has read anything since; then it is as good as any other.
    pub(crate) fn look_whether_it_reads(&mut self) {
        if self.reads_again() {
            self.patience.stalled = None;
        }
    }

    pub(super) fn reads_again(&self) -> bool {
        self.patience.stalled.is_some_and(|(_, taken)| self.line.taken() != taken)
    }

    /// When it is replaced, if work waits that it might do.
    pub(crate) fn replaced_at(&self) -> Option<Instant> {
        let (since, _) = self.patience.stalled.filter(|_| self.is_ready())?;
        since.checked_add(STALLED)
    }

    /// Work waits, and it has been stalled for long: gives back what has not started, and is replaced unless something has.
    pub(crate) fn give_up_on(&mut self, now: Instant) -> Vec<Job> {
        self.look_whether_it_reads();
        if self.replaced_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        if let Some((since, _)) = &mut self.patience.stalled
            && waits_for_the_processor(self.by.pid)
        {
            // Not stopped: another one would fare no better.
            *since = now;
            return Vec::new();
        }
        let back = self.take_all_back();
        if self.jobs.is_empty() {
            self.doom(now, Reason::Stalled);
        } else {
            self.patience.stalled = None;
        }
        back
    }

    /// The other end of its line was closed: by its death, which its pidfd is about to tell, or by its task. Nothing more starts there.
    pub(crate) fn hangs_up(&mut self, now: Instant) -> Vec<Job> {
        self.patience.hung_up = Some((now, control::now()));
        self.take_all_back()
    }

    /// Whether its line is of no more use for waking anybody.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.patience.hung_up.is_some()
    }

    /// Its line is closed and it lives: it can neither be woken nor wake.
    fn end_unreachable(&mut self, now: Instant, seen: u64) {
        let since = Duration::from_nanos(control::now().saturating_sub(seen));
        if since < DYING && is_dying(self.by.pid) {
            self.patience.hung_up = Some((now, seen));
            return;
        }
        let innocent = self.running().is_some() && self.line.control().started() > seen;
        match self.condition {
            // It counts as one that ended before it was ready.
            Condition::Starting => {}
            // What has started since then has not closed it, and may end.
            Condition::Ready if innocent => {
                self.patience.hung_up = Some((now, seen));
                return;
            }
            Condition::Ready => {
                self.condition = Condition::Doomed { since: now, killed: true, why: Reason::LineClosed };
            }
            Condition::Doomed { since, why, .. } => {
                self.condition = Condition::Doomed { since, killed: true, why };
            }
        }
        // Fails only when it has ended, which is what is wanted.
        let _ = self.process.kill();
    }

    /// Ends the worker: SIGTERM now, SIGKILL after the grace.
    pub(crate) fn doom(&mut self, now: Instant, why: Reason) {
        let killed = self.grace.is_zero();
        self.condition = Condition::Doomed { since: now, killed, why };
        // Fails only when it has ended, which is what is wanted.
        let _ = if killed { self.process.kill() } else { self.process.terminate() };
    }
}

/// What the system tells of a process's first thread: field `index` behind its name, of which the first is the state.
fn field_of(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index).map(str::to_owned)
}

/// Whether the process would run if it could, as far as the system tells: runnable, or in the middle of a page fault.
fn waits_for_the_processor(pid: u32) -> bool {
    matches!(field_of(pid, 0).as_deref(), Some("R" | "D"))
}

/// Whether the process is in the middle of its end, or has just come to it; false where the system does not tell.
fn is_dying(pid: u32) -> bool {
    /// Of the kernel's flags of a thread: it is on its way out.
    const EXITING: u32 = 4;
    field_of(pid, 6).and_then(|flags| flags.parse::<u32>().ok()).is_some_and(|flags| flags & EXITING != 0)
}

#[cfg(test)]
mod tests {
    use super::is_dying;
    use std::process::{Command, id};

    #[test]
    fn who_has_ended_and_was_not_waited_for_is_dying() {
        mp_test::guarded(|| {
            assert!(!is_dying(id()));
            let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
            assert!(!is_dying(child.id()));
            child.kill().unwrap();
            mp_test::until("it is dying", || is_dying(child.id()));
            child.wait().unwrap();
            assert!(!is_dying(child.id()));
        });
    }
}
