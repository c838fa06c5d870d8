//! Who looks for results: a caller who waits, the keeper, or nobody until a worker rings.
//!
//! | results come | who looks | a worker rings |
//! | --- | --- | --- |
//! | quickly: tasks take less than `QUICK`, or less than a spin and cores are free | whoever waits spins for a moment, a caller or the keeper | for the next one, when the spin was in vain |
//! | slower, and a worker has little left | nobody: a spin would take the core that a worker wants | for the next one |
//! | slower, and a worker has much left | nobody, for a `DOZE` at most | once it has worked for `NEWS`, or has little left |
//!
//! How quickly they come is measured: see [`Beat`].
//!
//! Invariants:
//! 1. Who gives the lock back has seen to the next look. Either the keeper is awake and on his way to the lock (`asleep` is false: he stores that it
//!    is true with the lock held, right before his poll); or each line with a job on it is announced and in the keeper's poll, and his poll ends when
//!    the first timer is over (`wakes_at`). Who cannot leave it like that rings.
//! 2. A line is announced for several results at once only while the keeper's sleep ends by itself within a `DOZE`: so nobody waits longer for news,
//!    whatever becomes of the worker. A worker that is asked so has many results to give, each of which looks at the word again: a look that came too
//!    early costs a task more, and who has nothing left rings before he sleeps.
//! 3. Behind a doze in which nothing came the keeper sleeps until he is rung for one result: a long task costs one wake-up more than it needs, an
//!    idle pool none.

use crate::inbox::Refusal;
use crate::job::Job;
use crate::owner::{Owner, PACKS, PREFETCH};
use crate::seat::Seat;
use crate::wakers;
use mp_core::park::{self, Spin};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

/// Tasks that take less, in nanoseconds, are spun for also where they leave no core free.
const QUICK: u64 = 20_000;
/// How long results may wait for the keeper while their worker has more to do, should it take longer than those before it. A sleep that
/// ends before the next tick of the system's clock costs a virtual machine much: see the decision on dozes.
const DOZE: Duration = Duration::from_millis(12);
/// For how much work, in nanoseconds, results are gathered at a worker that has more to do.
const NEWS: u64 = 4_000_000;
/// How much work, in nanoseconds, a worker is given ahead. Where all cores are busy, who is woken to give it more may have to wait for a tick.
const AHEAD: u64 = 12_000_000;
/// How many turns with progress an assisting caller takes before the keeper gets his: deaths and time-outs wait that long.
const ASSIST_TURNS: u32 = 32;
/// The most jobs at a worker, some entries of its control block less than all.
const MOST_AHEAD: usize = 48;
const MOST_PACKS: usize = 24;

/// How long workers lately worked on one job, in nanoseconds; zero while nothing is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beat(u64);

impl Beat {
    /// One long task among many short ones says little about the next.
    const MOST: u64 = 4_000_000;

    pub(crate) fn note(&mut self, nanoseconds: u64) {
        let last = nanoseconds.min(Beat::MOST);
        self.0 = if self.0 == 0 { last.max(1) } else { self.0 - self.0 / 4 + last / 4 };
    }

    /// How many jobs that is work for, in nanoseconds.
    fn jobs_in(self, nanoseconds: u64) -> usize {
        usize::try_from(nanoseconds / self.0.max(1)).unwrap_or(usize::MAX)
    }

    /// How many jobs a worker has at most: packs, which are cut by pace, or others.
    pub(crate) fn ahead(self, packs: bool) -> usize {
        let (least, most) = if packs { (PACKS, MOST_PACKS) } else { (PREFETCH, MOST_AHEAD) };
        // What is quick is looked after all the time, and the less of it lies about the better.
        if self.0 < QUICK { least } else { self.jobs_in(AHEAD).clamp(least, most) }
    }
}

/// How the pool is looked after.
#[derive(Debug, Default)]
pub(crate) struct Attendance {
    spin: Spin,
    assist_spin: Spin,
    /// When the keeper's sleep ends by itself; `None` for never.
    wakes_at: Option<Instant>,
    /// Some line is announced for several results at once.
    dozes: bool,
    /// A result came since the keeper last went to sleep.
    pub(crate) came: bool,
    /// A doze was in vain, and nothing has come since.
    vain: bool,
    /// Other seats are there than the keeper's poll knows of, or one is to be watched for another reason.
    pub(crate) changed: bool,
}

impl Owner {
    /// A caller waits: he takes over until `done`, or until nothing has come for a moment.
    pub(crate) fn assist(&mut self, done: impl Fn() -> bool) {
        let spins = self.spins();
        if spins {
            self.unannounce();
        }
        let mut turns = 0;
        while !done() && turns < ASSIST_TURNS {
            let came = self.turn();
            if wakers::pending() {
                break;
            }
            if came {
                turns += 1;
                continue;
            }
            if done() || self.terminated || !spins || !self.spin_assisting() {
                break;
            }
        }
        self.leave();
    }

    /// A caller submits: the job is queued and sent, if that can be right away.
    pub(crate) fn accept(&mut self, job: Job) -> Option<(Job, Refusal)> {
        let refused = self.admit(job);
        if refused.is_none() {
            self.dispatch();
            self.leave();
        }
        refused
    }

    /// A caller submits, and waits for it.
    pub(crate) fn accept_and_assist(&mut self, job: Job, done: impl Fn() -> bool) -> Option<(Job, Refusal)> {
        let refused = self.admit(job);
        if refused.is_none() {
            self.assist(done);
        }
        refused
    }

    /// Whether a spin for the next result is likely to see it, and takes nobody the core on which it is computed.
    pub(crate) fn spins(&self) -> bool {
        let each = self.book.beat.0;
        if each < QUICK {
            return true;
        }
        let busy = || self.seats().filter(|seat| seat.load() > 0).count();
        u128::from(each) < Spin::MOST.as_nanos() && busy() < park::usable_cores() as usize
    }

    fn spin_assisting(&mut self) -> bool {
        let peer = {
            let mut busy = self.seats().filter(|seat| seat.load() > 0);
            let Some(first) = busy.next() else { return false };
            if busy.next().is_none() { first.line.peer_core() } else { u32::MAX }
        };
        let (posts, retiring, shared) = (&self.posts, &self.retiring, &self.shared);
        let seats = || posts.iter().filter_map(|post| post.seat.as_ref()).chain(retiring);
        let something = || shared.full.load(Relaxed) || seats().any(|seat| seat.line.has_message());
        self.attendance.assist_spin.until(peer, something)
    }

    /// The keeper has nothing for the moment; true when something came within a short spin.
    pub(crate) fn spin(&mut self) -> bool {
        if !self.spins() {
            return false;
        }
        let (posts, retiring, shared) = (&self.posts, &self.retiring, &self.shared);
        let seats = || posts.iter().flat_map(|post| post.seat.iter().chain(&post.next)).chain(retiring);
        let something = || shared.full.load(Relaxed) || seats().any(|seat| seat.line.has_message());
        // With nothing in flight only callers are waited for, who ring.
        seats().any(|seat| seat.load() > 0) && self.attendance.spin.until(u32::MAX, something)
    }

    /// The workers need not ring: somebody looks.
    pub(crate) fn unannounce(&mut self) {
        for seat in self.seats_mut().filter(|seat| seat.is_ready() && seat.announced) {
            seat.line.announce_awake();
            seat.announced = false;
        }
    }

    /// A caller gives the lock back: by invariant 1.
    fn leave(&mut self) {
        if !self.shared.asleep.load(SeqCst) {
            return;
        }
        let left = || {
            let seats = self.seats().any(|seat| seat.load() > 0);
            let paused = self.book.next_due().is_some();
            seats || paused || !self.queue.is_empty() || self.posts.iter().any(|post| !post.bound.is_empty())
        };
        if self.attendance.changed || self.is_done() || (left() && self.needs_timer(Instant::now())) {
            return self.shared.ring();
        }
        let (lazily, beat) = (self.attendance.dozes, self.book.beat);
        let mut announced = false;
        // One whose worker has rung is announced no more, and its bell may have been taken for what came with it.
        let silent = |seat: &&mut Seat| seat.load() > 0 && !(seat.announced && seat.line.is_announced());
        for seat in self.seats_mut().filter(silent) {
            seat.announce(lazily, beat);
            announced = true;
        }
        if announced {
            Owner::barrier(lazily);
            if self.seats().any(|seat| seat.load() > 0 && seat.has_news()) {
                self.shared.ring();
            }
        }
    }

    /// Between what was announced and the last look. Who dozes looks again anyway: a worker that published in this very moment, and whose look at the word
    /// came too early to see it, is overheard for the rest of the doze at most. The barrier that would rule that out interrupts all cores.
    fn barrier(dozes: bool) {
        if dozes { fence(SeqCst) } else { park::heavy_barrier() }
    }

    /// Whether something is due before the keeper wakes by himself.
    fn needs_timer(&self, now: Instant) -> bool {
        match (self.next_timer(now), self.attendance.wakes_at) {
            (Some(timer), Some(wakes)) => timer < wakes,
            // Nothing is at a worker, and nothing is due: workers are being started, or jobs wait for such.
            (None, _) => !self.seats().any(|seat| seat.load() > 0),
            (Some(_), None) => true,
        }
    }

    /// The keeper goes to sleep: what is announced, and until when he may sleep.
    pub(crate) fn settle(&mut self) -> Option<Duration> {
        let Attendance { dozes, came, vain, .. } = self.attendance;
        let vain = (vain || dozes) && !came;
        let beat = self.book.beat;
        let lazily = !vain && beat.jobs_in(NEWS) > 1;
        let mut dozes = false;
        for seat in self.seats_mut() {
            dozes |= seat.announce(lazily, beat);
        }
        self.shared.asleep.store(true, SeqCst);
        Owner::barrier(dozes);
        let now = Instant::now();
        let doze = if dozes { now.checked_add(DOZE) } else { None };
        let wakes_at = [self.next_timer(now), doze].into_iter().flatten().min();
        let (spin, assist_spin) =
            (std::mem::take(&mut self.attendance.spin), std::mem::take(&mut self.attendance.assist_spin));
        self.attendance =
            Attendance { spin, assist_spin, wakes_at, dozes, came: false, vain, changed: false };
        if self.shared.full.load(SeqCst) || self.seats().any(Seat::has_news) {
            return Some(Duration::ZERO);
        }
        wakes_at.map(|at| at.saturating_duration_since(now))
    }
}

impl Seat {
    /// Asks the worker to ring: for the next result, or, lazily and where it has much to do, for several. True for the latter.
    fn announce(&mut self, lazily: bool, beat: Beat) -> bool {
        let (jobs, little) = (self.jobs(), beat.ahead(self.runs_packs()).div_ceil(4));
        // The one that it runs does not wait.
        let dozes = lazily && jobs > little + 1;
        let below = jobs.saturating_sub(beat.jobs_in(NEWS)).max(little + 1);
        self.announce_below(if dozes { u32::try_from(below).ok() } else { None });
        dozes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(nanoseconds: u64) -> Beat {
        let mut beat = Beat::default();
        beat.note(nanoseconds);
        beat
    }

    #[test]
    fn work_is_given_ahead_by_time_where_it_is_neither_quick_nor_long() {
        assert_eq!((Beat::default().ahead(false), Beat::default().ahead(true)), (PREFETCH, PACKS));
        assert_eq!((beat(QUICK - 1).ahead(false), beat(QUICK - 1).ahead(true)), (PREFETCH, PACKS));
        assert_eq!((beat(100_000).ahead(false), beat(100_000).ahead(true)), (MOST_AHEAD, MOST_PACKS));
        assert_eq!((beat(400_000).ahead(false), beat(1_000_000).ahead(true)), (30, 12));
        assert_eq!((beat(60_000_000_000).ahead(false), beat(60_000_000_000).ahead(true)), (PREFETCH, PACKS));
        const { assert!(MOST_AHEAD < crate::control::ENTRIES) };
    }

    #[test]
    fn a_beat_follows_what_comes_and_forgets() {
        let mut beat = beat(1_000_000);
        (0..40).for_each(|_| beat.note(1_000));
        assert!((900..2_000).contains(&beat.0), "{beat:?}");
        assert_eq!(beat.jobs_in(NEWS), usize::try_from(NEWS / beat.0).unwrap());
    }
}
