//! A pool's posts: who works at each, who comes next, who leaves.
//!
//! | a post has | because | what comes |
//! | --- | --- | --- |
//! | a seat | its worker is there, or about to be ready | it dies, or is relieved |
//! | a seat and another | the worker is used up or worn; the next one is starting | the next is ready: it takes the seat, the old one retires |
//! | no seat, one is starting | its worker has died | the new one, or a failure |
//! | no seat, a pause | its workers have failed to start | another start |
//! | no seat, vacant | it was idle for long | work |

use crate::book::Book;
use crate::error::TaskError;
use crate::job::Job;
use crate::observe::Event;
use crate::output::Output;
use crate::owner::Owner;
use crate::queue::Queue;
use crate::recipe::Recipe;
use crate::seat::{Condition, News, Seat};
use mp_process::{Process, SpawnError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// So many workers in a row that die before they are ready, while no other is, break the pool.
const HOPELESS: u32 = 5;
/// The pause before a worker is started after others have failed grows from the one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a worker may take to leave when it is let go.
pub(crate) const LEAVE: Duration = Duration::from_secs(5);

/// How many workers there are, and how long one is idle before it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staff {
    pub(crate) least: usize,
    pub(crate) idle: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Post {
    pub(crate) seat: Option<Seat>,
    /// Relieves the one who sits there.
    pub(crate) next: Option<Seat>,
    starting: bool,
    pause: Option<Instant>,
    /// Nobody is needed there now.
    pub(crate) vacant: bool,
    /// Jobs that run here or nowhere.
    pub(crate) bound: Queue,
}

/// A worker that was let go.
#[derive(Debug)]
pub(crate) struct Leaver {
    pub(crate) process: Arc<Process<()>>,
    pub(crate) outputs: [Output; 2],
    give_up: Instant,
    killed: bool,
    pub(crate) worker: usize,
}

impl Leaver {
    /// Closes the line, so that the worker leaves.
    pub(crate) fn of(seat: Seat) -> Leaver {
        let worker = seat.by().worker;
        let (process, outputs) = seat.let_go();
        Leaver { process, outputs, give_up: Instant::now() + LEAVE, killed: false, worker }
    }

    /// Whether it has ended; if so, what it wrote last is passed on, and its end is told.
    pub(crate) fn bury(&mut self, book: &Book) -> bool {
        let Some(status) = self.process.exit_status() else { return false };
        self.outputs.iter_mut().for_each(Output::finish);
        let (worker, pid) = (self.worker, self.process.pid());
        book.tell(|| Event::Ended { worker, pid, why: status.to_string() });
        true
    }

    /// When to kill it, if it is still there.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.killed).then_some(self.give_up)
    }

    pub(crate) fn keep_time(&mut self, now: Instant) {
        if self.give_up <= now && !self.killed {
            self.killed = true;
            // Fails only when it has ended, which is what is wanted.
            let _ = self.process.kill();
        }
    }
}

impl Post {
    pub(crate) fn with(seat: Option<Seat>) -> Post {
        Post { vacant: seat.is_none(), seat, ..Post::default() }
    }

    /// Whether nobody more is needed here.
    fn is_served(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| self.next.is_some() || !(seat.retiring || seat.worn))
    }
}

impl Owner {
    /// A worker was started for `post`, or not.
    pub(crate) fn seat(&mut self, post: usize, worker: Result<Seat, SpawnError>) {
        let known = self.posts.get_mut(post);
        match (worker, known) {
            // Resized to less and to more again meanwhile: two were started.
            (Ok(seat), Some(known)) if known.is_served() => {
                known.starting = false;
                self.dismiss(seat);
            }
            (Ok(seat), Some(known)) => {
                known.starting = false;
                self.book.stats.started += 1;
                tell_started(&self.book, &seat);
                let free = if known.seat.is_none() { &mut known.seat } else { &mut known.next };
                *free = Some(seat);
            }
            (Ok(seat), None) => self.dismiss(seat),
            (Err(error), Some(known)) => {
                known.starting = false;
                self.not_ready(post, &error.to_string());
            }
            (Err(_), None) => {}
        }
    }

    /// A worker that has come for nothing.
    fn dismiss(&mut self, seat: Seat) {
        self.attendance.changed = true;
        self.leaving.push(Leaver::of(seat));
    }

    /// The worker has ended: what it said is read first, then its jobs are sorted.
    pub(crate) fn bury(&mut self, pid: u32) {
        let ended = |seat: &Seat| seat.by().pid == pid && seat.process.exit_status().is_some();
        if let Some(index) = self.retiring.iter().position(ended) {
            self.take_results();
            // It may have been let go by its last result.
            if self.retiring.get(index).is_some_and(ended) {
                let seat = self.retiring.remove(index);
                self.settle_dead(seat);
            }
            return;
        }
        let holds =
            |post: &Post| post.seat.as_ref().is_some_and(ended) || post.next.as_ref().is_some_and(ended);
        if !self.posts.iter().any(holds) {
            return; // held back by a debugger, or a leaver
        }
        self.take_results();
        let Some(index) = self.posts.iter().position(holds) else { return };
        let post = &mut self.posts[index];
        let dead = if post.seat.as_ref().is_some_and(ended) {
            std::mem::replace(&mut post.seat, post.next.take())
        } else {
            post.next.take()
        };
        let Some(dead) = dead else { return };
        let was_ready = dead.condition != Condition::Starting;
        let status = dead.process.exit_status();
        let last_words = self.settle_dead(dead);
        let post = &self.posts[index];
        if was_ready {
            if post.seat.is_none() && !post.starting {
                self.start(index);
            }
        } else {
            let why = self.last_failure.take().unwrap_or_else(|| {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                let why = format!("a worker ended with {status} before it was ready");
                if last_words.is_empty() { why } else { format!("{why}: {last_words}") }
            });
            self.not_ready(index, &why);
        }
    }

    /// Gives the last line that it wrote to its standard error.
    fn settle_dead(&mut self, mut seat: Seat) -> String {
        let Some(status) = seat.process.exit_status() else { return String::new() };
        seat.outputs.iter_mut().for_each(Output::finish);
        let by = seat.by();
        self.book.tell(|| Event::Ended { worker: by.worker, pid: by.pid, why: status.to_string() });
        // All that it had sent: a turn reads no more than so much.
        while let Ok(Some(News::Settled)) = seat.read(&mut self.scratch, &mut self.book) {}
        let back = seat.bury(status, &mut self.book);
        self.queue_again(back);
        let [stderr, _] = &seat.outputs;
        stderr.tail().lines().next_back().unwrap_or_default().to_owned()
    }

    fn not_ready(&mut self, index: usize, why: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= HOPELESS && !self.seats().any(Seat::is_ready) {
            self.break_pool(why);
        } else if let Some(post) = self.posts.get_mut(index) {
            let pause = LONGEST_PAUSE.min(SHORTEST_PAUSE * self.failures);
            post.pause = Some(Instant::now() + pause);
        }
    }

    /// Starts a worker for the post in a thread of its own: a start may take its time, the pool goes on.
    fn start(&mut self, index: usize) {
        self.attendance.changed = true;
        let (shared, recipe) = (Arc::clone(&self.shared), Arc::clone(&self.recipe));
        let starter = move || {
            let seat = Seat::start(&recipe, index);
            shared.tell(|inbox| inbox.started.push((index, seat)));
        };
        match thread::Builder::new().name("mp-pool-start".into()).spawn(starter) {
            Ok(_) => {
                self.starting += 1;
                self.posts[index].starting = true;
                self.posts[index].vacant = false;
                self.posts[index].pause = None;
            }
            Err(error) => self.not_ready(index, &format!("no thread to start a worker: {error}")),
        }
    }

    pub(crate) fn break_pool(&mut self, why: &str) {
        self.shared.inbox().broken.get_or_insert_with(|| why.to_owned());
        self.terminated = true;
    }

    /// Workers that are used up are replaced; those whose successor is ready, or who have no more to do, go.
    pub(crate) fn relieve(&mut self) {
        if !self.retiring.is_empty() {
            let (done, busy) =
                std::mem::take(&mut self.retiring).into_iter().partition(|seat| seat.load() == 0);
            self.retiring = busy;
            let done: Vec<Seat> = done;
            self.attendance.changed |= !done.is_empty();
            self.leaving.extend(done.into_iter().map(Leaver::of));
        }
        let now = Instant::now();
        for index in 0..self.posts.len() {
            self.relieve_post(index, now);
        }
    }

    fn relieve_post(&mut self, index: usize, now: Instant) {
        let post = &mut self.posts[index];
        let Some(seat) = &mut post.seat else { return };
        let known = seat.retiring || seat.worn;
        seat.retiring = seat.retiring || seat.is_used_up();
        seat.worn = seat.worn || seat.is_worn(now);
        if !(seat.retiring || seat.worn) {
            return;
        }
        self.book.stats.recycled += u64::from(!known);
        if post.next.as_ref().is_some_and(Seat::is_ready) {
            let old = std::mem::replace(&mut post.seat, post.next.take());
            return self.retire(old);
        }
        let wanted = post.next.is_none() && !post.starting && post.pause.is_none();
        // One that is merely worn serves until then.
        if seat.retiring && seat.load() == 0 {
            let old = std::mem::replace(&mut post.seat, post.next.take());
            self.retire(old);
        }
        if wanted && !self.closed_and_empty() {
            self.start(index);
        }
    }

    fn closed_and_empty(&self) -> bool {
        self.closed && self.queue.is_empty() && self.posts.iter().all(|post| post.bound.is_empty())
    }

    /// It gets no more jobs; what has not started comes back.
    fn retire(&mut self, seat: Option<Seat>) {
        let Some(mut seat) = seat else { return };
        self.attendance.changed = true;
        seat.retiring = true;
        let back = seat.take_all_back();
        if seat.load() == 0 {
            self.leaving.push(Leaver::of(seat));
        } else {
            self.retiring.push(seat);
        }
        self.queue_again(back);
    }

    /// From now on there are `size` posts. What runs at those that go runs on to its end.
    pub(crate) fn resize(&mut self, size: usize) {
        let mut gone = self.posts.split_off(size.min(self.posts.len()));
        self.posts.resize_with(size, || Post { vacant: true, ..Post::default() });
        // Keys move with the number of posts.
        let bound: Vec<Job> =
            self.posts.iter_mut().chain(&mut gone).flat_map(|post| post.bound.drain()).collect();
        for post in gone {
            self.retire(post.seat);
            self.retire(post.next);
        }
        bound.into_iter().for_each(|job| self.enqueue(job));
        let there = self.posts.iter().filter(|post| !post.vacant).count();
        self.staff.least = if self.staff.idle.is_some() { self.staff.least.min(size) } else { size };
        (there..self.staff.least).for_each(|index| self.start(index));
    }

    /// Starts workers where posts are vacant and there is work for them.
    pub(crate) fn hire(&mut self) {
        if !self.posts.iter().any(|post| post.vacant) || self.terminated {
            return;
        }
        let comes = |post: &&Post| post.starting || post.seat.as_ref().is_some_and(|seat| !seat.is_ready());
        let coming = self.posts.iter().filter(comes).count();
        let idle = self.posts.iter().filter_map(|post| post.seat.as_ref()).filter(|seat| seat.load() == 0);
        // What waits at a worker behind what it runs could run elsewhere, too.
        let waiting = self.queue.len() + self.seats().map(Seat::surplus).sum::<usize>();
        let mut wanted = waiting.saturating_sub(coming + idle.count());
        for index in 0..self.posts.len() {
            let post = &self.posts[index];
            if !post.vacant {
                continue;
            }
            let bound = !post.bound.is_empty();
            if bound || wanted > 0 {
                wanted = wanted.saturating_sub(usize::from(!bound));
                self.start(index);
            }
        }
    }

    /// Lets workers go that have been idle for long, the last ones first.
    fn lay_off(&mut self, now: Instant) {
        let Some(idle) = self.staff.idle else { return };
        let mut there = self.posts.iter().filter(|post| post.seat.is_some() || post.starting).count();
        for index in (0..self.posts.len()).rev() {
            let post = &mut self.posts[index];
            let too_long = |seat: &Seat| seat.is_ready() && seat.load() == 0 && now >= seat.idle_since + idle;
            if there > self.staff.least
                && post.seat.as_ref().is_some_and(too_long)
                && post.next.is_none()
                && !post.starting
            {
                there -= 1;
                post.vacant = true;
                let seat = post.seat.take();
                self.retire(seat);
            }
        }
    }

    /// When a post must be looked at again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let pauses = self.posts.iter().filter_map(|post| post.pause);
        let leavers = self.leaving.iter().filter_map(Leaver::deadline);
        let there = self.posts.iter().filter(|post| post.seat.is_some() || post.starting).count();
        let idle = self.staff.idle.filter(|_| there > self.staff.least).and_then(|idle| {
            let seats = self.posts.iter().filter_map(|post| post.seat.as_ref());
            // One that is busy may be done at once, and nobody is rung for that.
            let since = |seat: &Seat| if seat.load() == 0 { seat.idle_since } else { Instant::now() };
            seats.filter(|seat| seat.is_ready()).map(|seat| since(seat) + idle).min()
        });
        pauses.chain(leavers).chain(idle).min()
    }

    /// Sees to everything whose time has come.
    pub(crate) fn keep_time(&mut self, now: Instant) {
        let mut back = Vec::new();
        let Owner { posts, retiring, book, scratch, leaving, .. } = self;
        let seats = posts.iter_mut().flat_map(|post| post.seat.iter_mut().chain(&mut post.next));
        for seat in seats.chain(retiring) {
            back.extend(seat.keep_time(now, scratch, book));
            back.extend(seat.take_expired(now));
        }
        leaving.iter_mut().for_each(|leaver| leaver.keep_time(now));
        let waits = !self.queue.is_empty() || !back.is_empty();
        for post in &mut self.posts {
            let wanted = |seat: &&mut Seat| waits || !post.bound.is_empty() || seat.load() > 0;
            back.extend(
                post.seat.as_mut().filter(wanted).map(|seat| seat.give_up_on(now)).into_iter().flatten(),
            );
        }
        self.queue_again(back);
        let due = self.book.due(now);
        due.into_iter().for_each(|job| self.enqueue(job));
        let mut over = self.queue.expire(now);
        over.extend(self.posts.iter_mut().flat_map(|post| post.bound.expire(now)));
        over.into_iter().for_each(|job| self.book.expire(job, now));
        for index in 0..self.posts.len() {
            if self.posts[index].pause.is_some_and(|until| until <= now) {
                self.posts[index].pause = None;
                self.start(index);
            }
        }
        self.relieve();
        self.lay_off(now);
    }

    /// Settles what is left: cancelled, or with the reason why the pool broke.
    pub(crate) fn settle_all(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.closed = true;
        let mut left: Vec<_> = inbox.jobs.drain(..).collect();
        let broken = inbox.broken.clone();
        drop(inbox);
        left.extend(self.queue.drain());
        left.extend(self.posts.iter_mut().flat_map(|post| post.bound.drain()));
        left.extend(self.book.take_retries());
        left.extend(self.seats_mut().flat_map(|seat| seat.take_jobs().collect::<Vec<_>>()));
        for job in left {
            job.fail(|| broken.clone().map_or(TaskError::Cancelled, TaskError::Broken));
        }
    }
}

fn tell_started(book: &Book, seat: &Seat) {
    let by = seat.by();
    book.tell(|| Event::Started { worker: by.worker, pid: by.pid });
}

/// The first workers of a pool: as many as there are posts, or as few as may be.
pub(crate) fn first_posts(
    recipe: &Recipe,
    posts: usize,
    at_once: usize,
    book: &Book,
) -> Result<Vec<Post>, SpawnError> {
    let mut started: Vec<Post> = Vec::with_capacity(posts);
    for index in 0..posts {
        match (index < at_once).then(|| Seat::start(recipe, index)).transpose() {
            Ok(seat) => {
                seat.iter().for_each(|seat| tell_started(book, seat));
                started.push(Post::with(seat));
            }
            Err(error) => {
                // Those before it end with their lines, but for one that is stopped.
                started.iter().filter_map(|post| post.seat.as_ref()).for_each(Seat::kill);
                return Err(error);
            }
        }
    }
    Ok(started)
}
