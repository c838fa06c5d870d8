//! The thread that keeps a pool: it is the owner when nobody else is, sleeps when nothing happens, and shuts down.

use crate::book::Book;
use crate::builder::Interrupts;
use crate::inbox::Shared;
use crate::output::Stream;
use crate::owner::Owner;
use crate::posts::Leaver;
use crate::seat::{STALLED, Seat};
use crate::wakers;
use mp_core::park;
use rustix::event::{PollFd, PollFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

/// How many busy turns may pass before deaths and time-outs are looked at.
const BUSY_TURNS: u32 = 32;

/// How often all is looked at where nothing can be waited for.
const BLIND: Duration = Duration::from_millis(1);

/// What a polled descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    /// The bell, a line, this process's own output: woken is all there is to it.
    Wake,
    /// A worker's line; what is told of it is `Wake` or `HungUp`.
    Line(u32),
    HungUp(u32),
    /// Ctrl-C was pressed.
    Interrupt,
    Death(u32),
    Output(u32),
}

/// A descriptor that lives as long as the poll, whatever becomes of its owner meanwhile.
type Kept = Arc<dyn AsFd + Send + Sync>;

/// Everything that can happen: so a sleep needs no slices, and an idle pool makes no wake-ups.
#[derive(Default)]
struct Watched(Vec<(Polled, Kept, PollFlags)>);

impl Watched {
    fn add(&mut self, what: Polled, fd: Kept) {
        self.0.push((what, fd, PollFlags::IN));
    }

    /// What is ready, once something is.
    fn poll(&self, bell: &OwnedFd, timeout: Option<Duration>) -> Vec<Polled> {
        let mut polled = vec![PollFd::new(bell, PollFlags::IN)];
        polled.extend(self.0.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd((**fd).as_fd(), *flags)));
        if park::poll_once(&mut polled, timeout).is_err() {
            // No memory for a poll, or a limit on descriptors that was lowered below what is open: all is looked at, now and then.
            thread::sleep(BLIND);
            return self.0.iter().map(|(what, ..)| *what).collect();
        }
        let ready = self.0.iter().zip(&polled[1..]).filter(|(_, fd)| !fd.revents().is_empty());
        let what = ready.map(|((what, ..), fd)| match *what {
            Polled::Line(pid) if fd.revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                Polled::HungUp(pid)
            }
            Polled::Line(_) => Polled::Wake,
            what => what,
        });
        what.collect()
    }
}

/// This process's own stream.
struct Own(BorrowedFd<'static>);

impl AsFd for Own {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}

/// The thread's body.
pub(crate) fn run(shared: &Arc<Shared>, interrupts: Option<Interrupts>) {
    // Should anything here panic: nobody waits for a pool without an owner.
    let guard = Unattended(Arc::clone(shared));
    let interrupts = interrupts.map(Arc::new);
    loop {
        let mut lock = shared.owner();
        let Some(owner) = lock.as_mut() else { break };
        work(owner);
        if wakers::pending() && owner.spins() {
            // They are woken where the lock is given back, here; and more will come soon.
            continue;
        }
        if owner.is_done() {
            let owner = lock.take();
            drop(lock);
            owner.into_iter().for_each(shut_down);
            break;
        }
        let (watched, timeout) = owner.settle_down(interrupts.as_ref());
        drop(lock);
        let happened = watched.poll(&shared.bell, timeout);
        shared.asleep.store(false, SeqCst);
        shared.silence();
        if happened.contains(&Polled::Interrupt)
            && let Some(interrupts) = &interrupts
        {
            interrupts.take();
        }
        if let Some(owner) = shared.owner().as_mut() {
            owner.look_around(&happened);
        }
    }
    drop(guard);
}

/// Works until nothing is left for the moment, or deaths and time-outs want a look.
fn work(owner: &mut Owner) {
    owner.unannounce();
    for _ in 0..BUSY_TURNS {
        if owner.is_done() {
            return;
        }
        let came = owner.turn();
        if wakers::pending() || !(came || owner.spin()) {
            return;
        }
    }
}

impl Owner {
    /// The last look before a sleep: what to watch, and for how long.
    fn settle_down(&mut self, interrupts: Option<&Arc<Interrupts>>) -> (Watched, Option<Duration>) {
        let timeout = self.settle();
        (self.watched(interrupts), timeout)
    }

    /// When something is due.
    pub(crate) fn next_timer(&self, now: Instant) -> Option<Instant> {
        let seats = self.seats().filter_map(|seat| seat.deadline(now));
        let bound = self.posts.iter().filter_map(|post| post.bound.next_expiry());
        let idle = self.seats().all(|seat| seat.load() == 0);
        let stalled = if idle { None } else { now.checked_add(STALLED) };
        let others = [self.queue.next_expiry(), self.book.next_due(), self.next_look()];
        let others = others.into_iter().chain([stalled, self.next_replacement()]);
        seats.chain(bound).chain(others.flatten()).min()
    }

    fn watched(&self, interrupts: Option<&Arc<Interrupts>>) -> Watched {
        let mut watched = Watched::default();
        if let Some(interrupts) = interrupts {
            watched.add(Polled::Interrupt, Arc::clone(interrupts) as Kept);
        }
        if let Some(stream) = self.output_full {
            watched.0.push((Polled::Wake, Arc::new(Own(stream.own())), PollFlags::OUT));
        }
        for seat in self.seats() {
            let pid = seat.by().pid;
            watched.add(Polled::Death(pid), Arc::clone(&seat.process) as Kept);
            if !seat.has_hung_up() {
                watched.add(Polled::Line(pid), Arc::clone(seat.line.socket()) as Kept);
            }
            self.watch_outputs(&mut watched, pid, &seat.outputs);
        }
        for leaver in &self.leaving {
            watched.add(Polled::Death(leaver.process.pid()), Arc::clone(&leaver.process) as Kept);
            self.watch_outputs(&mut watched, leaver.process.pid(), &leaver.outputs);
        }
        watched
    }

    fn watch_outputs(&self, watched: &mut Watched, pid: u32, outputs: &[crate::output::Output; 2]) {
        for output in outputs.iter().filter(|output| self.output_full != Some(output.stream())) {
            if let Some(pipe) = output.pipe() {
                watched.add(Polled::Output(pid), Arc::clone(pipe) as Kept);
            }
        }
    }

    /// Sees to what is not a result: deaths, outputs, time-outs.
    fn look_around(&mut self, happened: &[Polled]) {
        self.output_full = None;
        for what in happened {
            match *what {
                Polled::Output(pid) => self.forward(pid),
                Polled::Death(pid) => {
                    self.bury(pid);
                    self.bury_leaver(pid);
                }
                Polled::Interrupt => self.interrupt(),
                Polled::HungUp(pid) => {
                    let now = Instant::now();
                    let seats = self.seats_mut().filter(|seat| seat.by().pid == pid);
                    let back = seats.flat_map(|seat| seat.hangs_up(now)).collect();
                    self.queue_again(back);
                }
                Polled::Wake | Polled::Line(_) => {}
            }
        }
        self.keep_time(Instant::now());
    }

    fn forward(&mut self, pid: u32) {
        let mut full: Option<Stream> = None;
        let seats = self.posts.iter_mut().flat_map(|post| post.seat.iter_mut().chain(&mut post.next));
        let seats = seats.chain(&mut self.retiring).filter(|seat| seat.by().pid == pid);
        let leavers = self.leaving.iter_mut().filter(|leaver| leaver.process.pid() == pid);
        let outputs =
            seats.flat_map(|seat| &mut seat.outputs).chain(leavers.flat_map(|leaver| &mut leaver.outputs));
        for output in outputs {
            if !output.forward() {
                full = Some(output.stream());
            }
        }
        self.output_full = full.or(self.output_full);
    }

    fn bury_leaver(&mut self, pid: u32) {
        let Owner { leaving, book, .. } = self;
        leaving.retain_mut(|leaver| leaver.process.pid() != pid || !leaver.bury(book));
    }

    /// Ctrl-C: once, and what runs ends in peace while the rest is cancelled; twice, and all is.
    fn interrupt(&mut self) {
        self.interrupts += 1;
        let mut inbox = self.shared.inbox();
        inbox.closed = true;
        let unsent = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        self.closed = true;
        if self.interrupts > 1 {
            self.terminated = true;
            return;
        }
        drop(unsent);
        drop(self.queue.drain().collect::<Vec<_>>());
        drop(self.posts.iter_mut().flat_map(|post| post.bound.drain()).collect::<Vec<_>>());
        drop(self.book.take_retries());
        self.seats_mut().for_each(|seat| drop(seat.take_all_back()));
    }
}

/// The one way out: nothing is left of the pool afterwards, and every item is settled.
fn shut_down(mut owner: Owner) {
    owner.settle_all();
    if owner.terminated {
        owner.seats().for_each(Seat::kill);
        // Fails only for those that have ended.
        owner.leaving.iter().for_each(|leaver| drop(leaver.process.kill()));
    }
    // Those that are about to be started leave at once.
    while owner.starting > 0 {
        owner.shared.asleep.store(true, SeqCst);
        if !owner.shared.full.load(SeqCst) {
            let _ = park::sleep_on_fds(&[owner.shared.bell.as_fd()], None);
        }
        owner.shared.silence();
        owner.take_inbox();
    }
    let terminated = owner.terminated;
    let posts = owner.posts.drain(..).flat_map(|post| post.seat.into_iter().chain(post.next));
    let seats: Vec<Seat> = posts.chain(owner.retiring.drain(..)).collect();
    if terminated {
        seats.iter().for_each(Seat::kill);
    }
    owner.leaving.extend(seats.into_iter().map(Leaver::of));
    wait_for_all(std::mem::take(&mut owner.leaving), &owner.book);
    owner.settle_all();
    let stats = owner.stats();
    owner.shared.inbox().stats = Some(stats);
}

/// Waits until all workers have ended, passing on what they still write; kills those that take too long.
fn wait_for_all(mut leaving: Vec<Leaver>, book: &Book) {
    loop {
        let now = Instant::now();
        let mut full = false;
        leaving.retain_mut(|leaver| {
            leaver.keep_time(now);
            let ended = leaver.bury(book);
            if !ended {
                leaver.outputs.iter_mut().for_each(|output| full |= !output.forward());
            }
            !ended
        });
        if leaving.is_empty() {
            return;
        }
        let give_up = leaving.iter().filter_map(Leaver::deadline).min();
        // A killed worker ends: from then on its pidfd alone is waited for.
        let watched = !full && give_up.is_some();
        let outputs = leaving.iter().flat_map(|leaver| &leaver.outputs).filter_map(|output| output.pipe());
        let pipes = outputs.filter(|_| watched).map(|pipe| pipe.as_fd());
        let fds: Vec<_> = leaving.iter().map(|leaver| leaver.process.as_fd()).chain(pipes).collect();
        if park::sleep_on_fds(&fds, give_up.map(|at| at.saturating_duration_since(now))).is_err() {
            thread::sleep(BLIND);
        }
    }
}

/// Breaks the pool when its keeper is gone without having shut it down.
struct Unattended(Arc<Shared>);

impl Drop for Unattended {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox();
        if thread::panicking() {
            inbox.broken.get_or_insert_with(|| "the thread that keeps the pool panicked".to_owned());
        }
        inbox.closed = true;
        let left = std::mem::take(&mut inbox.jobs);
        drop(inbox);
        let owner = self.0.owner().take();
        // Settles each.
        drop(left);
        drop(owner);
        if let Some(rooms) = &self.0.rooms {
            rooms.open();
        }
    }
}
