//! What every lock with one holder stands on: a robust mutex in a segment, and sticky news of a holder's death.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | first | the mutex, 48 bytes on x86-64 |
//! | then a word | poison: 1 from a holder's death until `mark_recovered` |
//! | then a word | one of the type above, guarded by the mutex |
//! | 64.. | what the type above guards |
//!
//! | state | next `acquire` | how it goes on |
//! | --- | --- | --- |
//! | clean | the guard | a holder's death orphans it |
//! | orphaned | stores the poison, then marks the mutex consistent: `OwnerDied(guard)` | dying before the mark: orphaned |
//! | poisoned | `OwnerDied(guard)` | `mark_recovered`: clean |
//!
//! Invariants:
//! 1. The poison is stored before the mutex is consistent again, so no death hides the news of an earlier one.
//! 2. The memory stays mapped while a thread of this process owns the mutex, even if its guard was forgotten: the last
//!    handle's drop looks, and then leaks the mapping. The thread's robust list points into it.
//! 3. A guard that finds itself in another process than the one that acquired it (a forked child) does nothing: pthread
//!    lets only the owning thread unlock.
//!
//! Memory orderings: the mutex orders everything under it. Reading the poison without the mutex is a hint.

use crate::error::Refusal;
use crate::raw::{Acquired, RobustMutex};
use crate::sys::pthread::{is_this_thread, this_thread};
use crate::sys::robust::Anchored;
use mp_core::Deadline;
use mp_shm::{Format, HEADER, Mapping, Segment, SharedMemory};
use serde::Deserializer;
use serde::de::Error as _;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MUTEX: usize = HEADER;
/// Where the memory of the type above begins.
pub(crate) const BODY: usize = HEADER + 64;

const _: () = assert!(RobustMutex::SIZE + 8 <= BODY - HEADER);

/// A format whose memory holds a mutex of this C library.
pub(crate) const fn format(kind: [u8; 4], element_size: u32) -> Format {
    let libc = if cfg!(target_env = "musl") { 2 } else { 1 };
    Format { kind, version: 1, element: libc, element_size }
}

/// Refuses memory whose records of owners mean nothing here.
pub(crate) fn same_namespace(segment: Segment) -> io::Result<Segment> {
    if segment.same_pid_namespace() {
        return Ok(segment);
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "it was made in another pid namespace (another container): its holder could not be told alive from dead here",
    ))
}

/// How many bytes of named memory a lock takes whose type guards `body` bytes.
pub(crate) const fn size(body: usize) -> usize {
    BODY + body
}

fn payload(body: usize) -> io::Result<usize> {
    (BODY - HEADER).checked_add(body).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn build(map: &Mapping, fill: impl FnOnce(&Mapping)) -> io::Result<()> {
    RobustMutex::init(map, MUTEX)?;
    fill(map);
    Ok(())
}

/// How the lock came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    None,
    OwnerDied,
}

/// The memory of one lock, as this process has it mapped. The last drop is the place for invariant 2.
pub(crate) struct Orphanable {
    anchored: Anchored,
    /// The thread that acquired it through this mapping and has not given it back, or 0. Stored by holders only, and not in shared memory:
    /// whatever is written there, a living thread's list of what it holds points into this mapping.
    taken_by: AtomicU32,
}

impl Orphanable {
    /// Makes a free one in memory of its own; `fill` writes what the type above guards.
    pub(crate) fn create(
        format: Format,
        body: usize,
        fill: impl FnOnce(&Mapping),
    ) -> io::Result<Arc<Orphanable>> {
        let segment = Segment::create(format, payload(body)?)?;
        build(segment.map(), fill)?;
        Orphanable::over(segment)
    }

    /// The same at a place in named memory.
    pub(crate) fn create_in(
        memory: &SharedMemory,
        offset: usize,
        format: Format,
        body: usize,
        fill: impl FnOnce(&Mapping),
    ) -> io::Result<Arc<Orphanable>> {
        let segment = Segment::place(memory, offset, format, payload(body)?, |map| build(map, fill))?;
        Orphanable::over(segment)
    }

    /// The one at a place in named memory.
    pub(crate) fn open_in(
        memory: &SharedMemory,
        offset: usize,
        format: Format,
        body: usize,
    ) -> io::Result<Arc<Orphanable>> {
        Orphanable::open(Segment::open_at(memory, offset, format)?, body)
    }

    fn over(segment: Segment) -> io::Result<Arc<Orphanable>> {
        let no_lock = || io::Error::new(io::ErrorKind::InvalidData, "there is no lock in this memory");
        let anchored = Anchored::find(segment, MUTEX).ok_or_else(no_lock)?;
        Ok(Arc::new(Orphanable { anchored, taken_by: AtomicU32::new(0) }))
    }

    pub(crate) fn open(segment: Segment, body: usize) -> io::Result<Arc<Orphanable>> {
        let segment = same_namespace(segment)?;
        if segment.len().checked_sub(BODY - HEADER).is_none_or(|len| len < body) {
            let text = "shared memory that is too small for what it should hold";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Orphanable::over(segment)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
        format: Format,
        body: usize,
    ) -> Result<Arc<Orphanable>, D::Error> {
        let segment = Segment::deserialize_as(deserializer, format)?;
        Orphanable::open(segment, body).map_err(D::Error::custom)
    }

    #[inline]
    pub(crate) fn segment(&self) -> &Segment {
        self.anchored.segment()
    }

    #[inline]
    pub(crate) fn mutex(&self) -> RobustMutex<'_> {
        self.anchored.mutex()
    }

    #[inline]
    fn poison(&self) -> &AtomicU32 {
        &self.anchored.words()[0]
    }

    /// The word of the type above.
    #[inline]
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.anchored.words()[1]
    }

    #[inline]
    pub(crate) fn try_acquire(&self) -> Result<News, Refusal> {
        let acquired = self.mutex().try_lock_or_inherit()?;
        Ok(self.received(acquired, || true))
    }

    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> Result<News, Refusal> {
        let acquired = self.mutex().lock_or_inherit(deadline)?;
        Ok(self.received(acquired, || true))
    }

    /// After the mutex was acquired; `is_news` is asked whether the death of an owner matters.
    #[inline]
    pub(crate) fn received(&self, acquired: Acquired, is_news: impl FnOnce() -> bool) -> News {
        if acquired == Acquired::OwnerDied {
            self.adopt(is_news());
        }
        self.taken_by.store(self.mutex().owner().unwrap_or_else(this_thread), Ordering::Relaxed);
        mp_core::step!("lock.acquire", 4);
        if self.is_poisoned() { News::OwnerDied } else { News::None }
    }

    /// Makes the mutex whole after its owner's death; `news` says whether that death is news.
    #[cold]
    fn adopt(&self, news: bool) {
        mp_core::step!("lock.acquire", 1);
        if news {
            self.poison().store(1, Ordering::Release);
        }
        mp_core::step!("lock.acquire", 2);
        self.mutex().mark_consistent();
        mp_core::step!("lock.acquire", 3);
    }

    #[inline]
    pub(crate) fn release(&self) {
        mp_core::step!("lock.release", 1);
        self.taken_by.store(0, Ordering::Relaxed);
        self.mutex().unlock();
        mp_core::step!("lock.release", 2);
    }

    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison().load(Ordering::Relaxed) != 0
    }

    pub(crate) fn mark_recovered(&self) {
        self.poison().store(0, Ordering::Release);
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.mutex().owner().is_some()
    }

    /// Whoever holds it now, to be shown.
    pub(crate) fn holder(&self) -> Option<Holder> {
        self.mutex().owner().map(Holder::of)
    }

    /// Fills in the fields that every lock shows.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("holder", &self.holder())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl Drop for Orphanable {
    fn drop(&mut self) {
        // Guards borrow their mapping; so who took it here and still holds it has forgotten the guard. A thread that has
        // ended since left the list that pointed here.
        let thread = self.taken_by.load(Ordering::Relaxed);
        if thread != 0 && is_thread_of_this_process(thread) {
            mem::forget(self.segment().clone());
        }
    }
}

/// Whether `tid` is a thread of this process. When that cannot be known it counts as one.
fn is_thread_of_this_process(tid: u32) -> bool {
    match std::fs::metadata(format!("/proc/self/task/{tid}")) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            !std::path::Path::new("/proc/self/task").exists()
        }
        Err(_) => true,
    }
}

/// A holder as `Debug` shows it.
pub(crate) struct Holder {
    pid: Option<u32>,
    thread: u32,
}

impl Holder {
    fn of(thread: u32) -> Holder {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
        Holder { pid, thread }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) if pid == std::process::id() => write!(f, "thread {} of this process", self.thread),
            Some(pid) => write!(f, "thread {} of process {pid}", self.thread),
            None => write!(f, "thread {}", self.thread),
        }
    }
}

/// A process as `Debug` shows it, by its packed identity.
pub(crate) struct Owner(pub(crate) u64);

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 32 {
            pid if pid == std::process::id().into() => f.write_str("this process"),
            pid => write!(f, "process {pid}"),
        }
    }
}

/// A lock that a guard borrows, or keeps itself: errors carry their guard without borrowing.
pub(crate) enum Place<'a> {
    Borrowed(&'a Arc<Orphanable>),
    Owned(Arc<Orphanable>),
}

impl Place<'_> {
    #[inline]
    pub(crate) fn lock(&self) -> &Orphanable {
        match self {
            Place::Borrowed(lock) => lock,
            Place::Owned(lock) => lock,
        }
    }
}

/// The fact that this thread holds a lock; dropping it gives the lock back.
pub(crate) struct Held<'a> {
    place: Place<'a>,
    suspended: bool,
    not_send: PhantomData<*const ()>,
}

impl<'a> Held<'a> {
    /// After a successful `acquire` by this thread.
    #[inline]
    pub(crate) fn new(lock: &'a Arc<Orphanable>) -> Held<'a> {
        Held { place: Place::Borrowed(lock), suspended: false, not_send: PhantomData }
    }

    /// The same, keeping the lock itself: errors carry their guard without borrowing.
    pub(crate) fn owned(lock: &Arc<Orphanable>) -> Held<'static> {
        let place = Place::Owned(Arc::clone(lock));
        Held { place, suspended: false, not_send: PhantomData }
    }

    #[inline]
    pub(crate) fn lock(&self) -> &Orphanable {
        self.place.lock()
    }
}

/// A lock that is given back for a while under its guard.
pub(crate) trait Suspend {
    /// Gives the lock back for a while, until [`resume`](Suspend::resume).
    fn suspend(&mut self);
    /// Acquires the lock again after [`suspend`](Suspend::suspend).
    fn resume(&mut self) -> Result<News, Refusal>;
    /// Whether this thread holds it: not so in a forked child.
    fn is_ours(&self) -> bool;
}

impl Suspend for Held<'_> {
    fn suspend(&mut self) {
        self.lock().release();
        self.suspended = true;
    }

    fn resume(&mut self) -> Result<News, Refusal> {
        let news = self.lock().acquire(Deadline::NEVER)?;
        self.suspended = false;
        Ok(news)
    }

    fn is_ours(&self) -> bool {
        self.lock().mutex().owner().is_some_and(is_this_thread)
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.suspended {
            self.lock().release();
        }
    }
}
