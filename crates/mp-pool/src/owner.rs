//! The one owner of a pool's state: hands out jobs, takes results, sees deaths and keeps time.
//!
//! | event | what the owner does |
//! | --- | --- |
//! | a job is submitted | queues it; sends it to the ready worker with the fewest jobs, or the one it is bound to |
//! | a result arrives | settles its item, or puts it aside for another try |
//! | a worker is ready, or idle while another has unstarted jobs | sends it jobs, taken back from the other where needed |
//! | a job of a higher priority arrives | takes back what is less urgent and has not started |
//! | a worker's pidfd is readable | reads its line out, settles the item that ran, queues the rest again, starts another worker |
//! | a task runs past its time-out or deadline | takes the rest back, SIGTERM, and SIGKILL after a grace; its death is seen as any other |
//! | a worker does not begin with what it was sent (stopped) | takes it back, gives it to others; replaces the worker if work still waits for it |
//! | a worker hangs up its line and lives on | SIGKILL; its death is seen as any other |
//! | a task has not started in time | takes it back, settles it |
//! | a task is cancelled | takes it back if it has not started; else asks it to stop, and after a grace goes on as for a time-out |
//! | a worker has had its number of tasks, its age, its memory | starts another; lets it go once it has nothing left |
//! | workers die again and again before they are ready, and none is | breaks the pool: every job gets the reason |
//! | closed, and nothing is left | lets the workers go |
//! | terminated | kills the workers, cancels every job |
//!
//! Invariants:
//! 1. Who holds the lock around this state is the owner; nobody else touches it. It is the pool's thread (`keeper`) whenever anything is
//!    in flight and nobody assists; a caller who waits for a result for as long as results come quickly (`assist`); a caller who submits
//!    for the moment of sending (`accept`). The keeper sleeps without the lock. Others push into the inbox and ring.
//! 2. No user's code runs here but wakers, nothing blocks, nothing sleeps.
//! 3. Every item is in exactly one place: the inbox, a queue, one seat, the retries, or settled. Wherever it is dropped it is settled, so
//!    not even a panic here leaves anybody waiting.
//! 4. An item that has started is never sent again unless it is to be retried; one that has not is, for free.
//! 5. While the keeper sleeps, each line with a job on it is announced (its worker rings for what comes), or an owner is at work who sees to
//!    that when he leaves: see `attend`. Timers are the keeper's: who brings one that is due before he wakes rings. While anything is at a worker the
//!    keeper sleeps for `STALLED` at most, so that a worker which does not begin is found.
//!
//! The inbox is a mutex with two flags beside it. Whoever changes it stores `full`, then looks at `asleep`; the keeper stores `asleep`, then
//! looks at `full`, both sequentially consistent: one of the two sees the other. A line is the same with its rings' words.

use crate::attend::Attendance;
use crate::book::Book;
use crate::inbox::{Refusal, Shared};
use crate::job::{Job, Wish};
use crate::posts::{Leaver, Post, Staff};
use crate::queue::Queue;
use crate::recipe::Recipe;
use crate::seat::{News, Refused, Seat};
use crate::stats::Stats;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// How many jobs are at a worker at most, or more where they are short: enough to keep it busy, taken back as long as they have not started.
pub(crate) const PREFETCH: usize = 16;
/// How many jobs that are cut by pace, of which each is work for half a millisecond; more where that is reached.
pub(crate) const PACKS: usize = 3;
/// How many results of one worker are taken before the others get their turn.
const TURN: usize = 64;

/// The owner's state.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) staff: Staff,
    pub(crate) posts: Vec<Post>,
    /// Workers that get no more jobs, and have some left.
    pub(crate) retiring: Vec<Seat>,
    /// Workers that were let go and have not ended.
    pub(crate) leaving: Vec<Leaver>,
    pub(crate) queue: Queue,
    pub(crate) book: Book,
    /// Workers that are being started by threads of their own.
    pub(crate) starting: usize,
    /// Workers in a row that did not get ready.
    pub(crate) failures: u32,
    /// What the last initializer that failed said.
    pub(crate) last_failure: Option<String>,
    pub(crate) closed: bool,
    pub(crate) terminated: bool,
    /// How often Ctrl-C was pressed.
    pub(crate) interrupts: u32,
    pub(crate) attendance: Attendance,
    pub(crate) scratch: Vec<u8>,
    /// This process's own output takes nothing now: which of the two.
    pub(crate) output_full: Option<crate::output::Stream>,
}

impl Owner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        recipe: Recipe,
        staff: Staff,
        posts: Vec<Post>,
        mut book: Book,
    ) -> Owner {
        book.stats.started = posts.iter().filter(|post| post.seat.is_some()).count() as u64;
        Owner {
            shared,
            recipe: Arc::new(recipe),
            staff,
            posts,
            retiring: Vec::new(),
            leaving: Vec::new(),
            queue: Queue::default(),
            book,
            starting: 0,
            failures: 0,
            last_failure: None,
            closed: false,
            terminated: false,
            interrupts: 0,
            attendance: Attendance::default(),
            scratch: Vec::new(),
            output_full: None,
        }
    }

    /// All workers that may say something.
    pub(crate) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.posts.iter().flat_map(|post| post.seat.iter().chain(&post.next)).chain(&self.retiring)
    }

    pub(crate) fn seats_mut(&mut self) -> impl Iterator<Item = &mut Seat> {
        let posts = self.posts.iter_mut().flat_map(|post| post.seat.iter_mut().chain(&mut post.next));
        posts.chain(&mut self.retiring)
    }

    /// One turn of what comes in and goes out; true when anything did.
    pub(crate) fn turn(&mut self) -> bool {
        self.take_inbox();
        self.take_results() | self.dispatch()
    }

    /// When a worker is to be replaced that does not begin with what waits for it, or might.
    pub(crate) fn next_replacement(&self) -> Option<Instant> {
        let waits = !self.queue.is_empty();
        let wanted = self.posts.iter().filter_map(|post| {
            let seat =
                post.seat.as_ref().filter(|seat| waits || !post.bound.is_empty() || seat.load() > 0)?;
            seat.replaced_at()
        });
        wanted.min()
    }

    pub(crate) fn admit(&mut self, job: Job) -> Option<(Job, Refusal)> {
        // What came before goes before.
        self.take_inbox();
        let refusal = self.shared.inbox().refusal();
        match refusal {
            Some(why) => Some((job, why)),
            None => {
                self.enqueue(job);
                None
            }
        }
    }

    pub(crate) fn enqueue(&mut self, job: Job) {
        match job.terms.place.seat(self.posts.len()) {
            Some(seat) => self.posts[seat].bound.push_back(job),
            None => {
                self.make_way(job.terms.priority);
                self.queue.push_back(job);
            }
        }
    }

    /// Something more urgent comes than what waits at the workers.
    fn make_way(&mut self, priority: i32) {
        if !self.seats().any(|seat| seat.has_less_urgent(priority)) {
            return;
        }
        let back: Vec<Job> = self.seats_mut().flat_map(|seat| seat.take_less_urgent(priority)).collect();
        self.queue_again(back);
    }

    pub(crate) fn take_inbox(&mut self) {
        if !self.shared.full.swap(false, SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.inbox();
        let jobs = std::mem::take(&mut inbox.jobs);
        self.closed |= inbox.closed;
        self.terminated |= inbox.terminated | inbox.broken.is_some();
        let started = std::mem::take(&mut inbox.started);
        let unwanted = std::mem::take(&mut inbox.unwanted);
        let resize = inbox.resize.take();
        drop(inbox);
        jobs.into_iter().for_each(|job| self.enqueue(job));
        for (post, worker) in started {
            self.starting -= 1;
            self.seat(post, worker);
        }
        if let Some(size) = resize {
            self.resize(size);
        }
        if unwanted {
            self.drop_unwanted();
        }
    }

    /// Cancels what nobody wants and has not started: dropping an item settles it. Asks what runs to stop, where that is wished.
    fn drop_unwanted(&mut self) {
        let now = Instant::now();
        self.queue.drop_unwanted();
        self.posts.iter_mut().for_each(|post| post.bound.drop_unwanted());
        self.book.drop_unwanted(now);
        self.seats_mut().for_each(|seat| drop(seat.take_unwanted()));
    }

    pub(crate) fn is_done(&self) -> bool {
        let idle = || {
            self.queue.is_empty()
                && self.book.next_due().is_none()
                && self.posts.iter().all(|post| post.bound.is_empty())
                && self.seats().all(|seat| seat.load() == 0)
        };
        self.terminated || (self.closed && idle())
    }

    pub(crate) fn take_results(&mut self) -> bool {
        let mut progress = false;
        let Owner { posts, retiring, book, scratch, failures, last_failure, .. } = self;
        let seats = posts.iter_mut().flat_map(|post| post.seat.iter_mut().chain(&mut post.next));
        for seat in seats.chain(retiring) {
            for _ in 0..TURN {
                match seat.read(scratch, book) {
                    Ok(None) => break,
                    Ok(Some(News::Settled)) => {}
                    Ok(Some(News::Ready)) => *failures = 0,
                    Ok(Some(News::Broken(why))) => *last_failure = Some(why),
                    Err(_) => {
                        // A line that makes no sense: its worker is ended, and its death says the rest.
                        let _ = seat.process.kill();
                        break;
                    }
                }
                progress = true;
            }
        }
        if progress {
            self.attendance.came = true;
            self.relieve();
        }
        progress
    }

    /// Hands out what is queued; true when something was sent.
    pub(crate) fn dispatch(&mut self) -> bool {
        if self.queue.is_empty() {
            self.share_out();
        }
        self.seats_mut().for_each(|seat| {
            seat.full = false;
            seat.look_whether_it_reads();
        });
        let mut progress = self.dispatch_bound();
        let Owner { posts, queue, scratch, book, .. } = self;
        let workers = posts.len();
        while let Some(job) = queue.pop_front() {
            let Some(mut job) = in_time(job, book) else { continue };
            let seats = posts.iter_mut().filter_map(|post| post.seat.as_mut());
            // How long a chunk takes that the caller has cut is not known.
            let cut_by_hand = job.items.len() > 1 && job.pace().is_none();
            let ahead = if cut_by_hand { PREFETCH } else { book.beat.ahead(job.pace().is_some()) };
            let free = |seat: &&mut Seat| seat.is_free() && seat.jobs() < ahead && seat.quota() > 0;
            let Some(seat) = seats.filter(free).min_by_key(|seat| seat.jobs()) else {
                queue.push_front(job);
                break;
            };
            // What waits behind it counts: only towards the end jobs get smaller.
            if let Some(rest) = job.cut(queue.items(), workers) {
                queue.push_front(rest);
            }
            progress |= send(seat, job, queue, scratch);
        }
        if progress {
            self.seats_mut().for_each(Seat::wake);
        }
        self.hire();
        progress
    }

    /// Hands out what is bound to one worker.
    fn dispatch_bound(&mut self) -> bool {
        let mut progress = false;
        let Owner { posts, scratch, book, .. } = self;
        for Post { seat, bound, .. } in posts {
            let Some(seat) = seat.as_mut().filter(|_| !bound.is_empty()) else { continue };
            // No less than what is everybody's: that would keep its place full.
            let ahead = book.beat.ahead(false);
            while seat.is_free() && seat.jobs() < ahead && seat.quota() > 0 {
                let Some(job) = bound.pop_front() else { break };
                let Some(job) = in_time(job, book) else { continue };
                progress |= send(seat, job, bound, scratch);
            }
        }
        progress
    }

    /// A worker is idle while another has jobs that have not started: those are taken back and shared.
    fn share_out(&mut self) {
        let idle = |seat: &Seat| seat.is_free() && seat.jobs() == 0 && seat.quota() > 0;
        let mut seats = self.posts.iter().filter_map(|post| post.seat.as_ref());
        if !seats.any(idle) {
            return;
        }
        let loaded = self.seats_mut().filter(|seat| seat.load() > 1);
        let back = match loaded.max_by_key(|seat| seat.surplus()) {
            Some(seat) if seat.surplus() > 0 => seat.give_surplus(),
            _ => None,
        };
        self.queue_again(back.into_iter().collect());
    }

    /// Puts what has not started before everything else, in its order.
    pub(crate) fn queue_again(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev().filter(|job| job.wish() == Wish::Wanted) {
            match job.terms.place.seat(self.posts.len()) {
                Some(seat) => self.posts[seat].bound.push_front(job),
                None => self.queue.push_front(job),
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.book.stats.clone();
        stats.workers =
            self.posts.iter().filter(|post| post.seat.as_ref().is_some_and(Seat::is_ready)).count();
        let waiting =
            self.posts.iter().map(|post| &post.bound).chain([&self.queue]).map(Queue::items).sum::<usize>();
        // What was handed in while somebody was at work here, and nobody has come to yet.
        let handed_in = self.shared.inbox().jobs.iter().map(|job| job.items.len()).sum::<usize>();
        stats.queued = waiting + handed_in + self.book.pausing();
        stats.at_workers = self.seats().map(Seat::load).sum();
        stats
    }
}

/// `job`, unless its time to start is over, which queues look for now and then: it is settled then.
fn in_time(job: Job, book: &mut Book) -> Option<Job> {
    if job.start_by.is_some() {
        let now = Instant::now();
        if job.expired(now).is_some() {
            book.expire(job, now);
            return None;
        }
    }
    Some(job)
}

/// Sends `job`, or as much of it as the worker may still have; what is left goes back to the front of `queue`. True when something was sent.
fn send(seat: &mut Seat, mut job: Job, queue: &mut Queue, scratch: &mut Vec<u8>) -> bool {
    if let Some(rest) = job.split_off(seat.quota()) {
        queue.push_front(rest);
    }
    match seat.send(job, scratch) {
        Ok(()) => return true,
        Err(Refused::Never(job, error)) => job.fail_with(*error),
        Err(Refused::Later(job)) => {
            seat.full = true;
            queue.push_front(job);
        }
    }
    false
}
