//! The queue itself: a growing ring with a robust lock at each end.
//!
//! | who | under which lock | does |
//! | --- | --- | --- |
//! | producer | the put lock | checks closed and bound, sends handles, writes and publishes the record |
//! | consumer | the get lock | copies the record out, commits the take, receives its handles |
//! | closer | the put lock | sets `closed`: afterwards nothing more gets in |
//! | whoever finds it idle | the get lock, then tries the put lock | gives large regions back |
//!
//! Invariants:
//! 1. Encoding and decoding, which run users' code, happen outside of the locks; under them nobody sleeps or allocates
//!    without bound. So a lock is held for a copy, and "empty" and "full" are exact.
//! 2. The ring says what is inside (see its page); a death under a lock leaves it whole. The next owner of the get
//!    lock finishes giving back memory; the put lock needs no repair.
//! 3. Who may sleep sets the sleep word, passes a process-wide barrier, and looks again; who published looks at the word after.
//!    Several may sleep on one word and one is woken: he sets the word again before he looks, since he cannot know
//!    whether he was the only one, and passes the wake on when something is left. A wake that died with the woken one is
//!    made good within a slice.
//! 4. Handles go over a socket: the number is advanced first, so that a dead producer's is never used again; they are sent
//!    before the record is published, and received after the take was committed. A receiver discards lower numbers.
//! 5. The two ends of that socket are the lifelines: producers hold one, consumers the other, a whole queue both.

use crate::error::{GetError, PutError};
use mp_core::deadline::{Deadline, SLICE};
use mp_core::handle::{Handle, Handles};
use mp_core::park::{self, Spin};
use mp_core::wire::Message;
use mp_core::{EncodeError, Encoding};
use mp_lock::raw::{Acquired, RawLockError, RobustMutex};
use mp_pipe::packet::{self, Inbox};
use mp_pipe::ring::{Direction, Growth, Head, ReaderCache, Record, Ring, Table, WriteError, WriterCache};
use mp_shm::{Format, Growable, HEADER, Mapping};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, TryLockError};

pub(crate) const FORMAT: Format = Format::plain(*b"QUEU", 1);

const CONTROL: usize = HEADER + Table::Long.fixed();
const PUT_LOCK: usize = CONTROL;
const GET_LOCK: usize = CONTROL + 128;
const BOUND: usize = CONTROL + 256;
const CLOSED: usize = CONTROL + 264;
pub(crate) const FIXED: usize = Table::Long.fixed() + 384;
const _: () = assert!(RobustMutex::SIZE <= 128);

/// A producer asks the kernel whether a consumer still lives when the last answer is older than so many ticks.
const FRESH: u64 = 1 << 17;

/// "At once" still waits so long for a lock, which nobody holds longer than a copy takes, unless it was stopped.
const AT_ONCE: std::time::Duration = SLICE;

/// What is left large after an idle slice is given back.
const IDLE_KEEPS: u64 = 1 << 20;

/// Why nothing was put; the value is put back around it by the caller.
#[derive(Debug)]
pub(crate) enum Refused {
    TimedOut,
    Closed,
    Disconnected,
    TooManyHandles,
    TooLong,
    Encode(EncodeError),
    Io(io::Error),
}

impl Refused {
    /// The error that gives `value` back; `Err` for a time-out, which callers name differently.
    pub(crate) fn with<T>(self, value: T) -> Result<PutError<T>, T> {
        Ok(match self {
            Refused::TimedOut => return Err(value),
            Refused::Closed => PutError::Closed(value),
            Refused::Disconnected => PutError::Disconnected(value),
            Refused::TooManyHandles => PutError::TooManyHandles(value),
            Refused::TooLong => PutError::TooLong(value),
            Refused::Encode(error) => PutError::Encode(value, error),
            Refused::Io(error) => PutError::Io(value, error),
        })
    }
}

/// A message as it was taken, not yet decoded.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) encoding: Encoding,
    pub(crate) handles: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(crate) struct Core {
    ring: Ring,
    bound: u64,
    /// What this process remembers of either side. Used under the shared lock of that side, so never contended; a child
    /// forked while another thread held one goes without.
    writer: Mutex<WriterCache>,
    reader: Mutex<ReaderCache>,
    /// When consumers were last known to live.
    alive_at: AtomicU64,
}

/// One of the two shared locks, held.
struct Held<'a>(RobustMutex<'a>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl Core {
    pub(crate) fn create(bound: u64) -> io::Result<Core> {
        let memory = Growable::create(FORMAT, FIXED)?;
        RobustMutex::init(memory.fixed(), PUT_LOCK)?;
        RobustMutex::init(memory.fixed(), GET_LOCK)?;
        memory.fixed().atomic_u64(BOUND).store(bound, Relaxed);
        Ok(Core::over(memory, bound))
    }

    /// The queue in memory that came from elsewhere.
    pub(crate) fn open(memory: Growable) -> io::Result<Core> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if !memory.same_pid_namespace() {
            return Err(invalid(
                "a queue from another pid namespace: the owners of its locks could not be told",
            ));
        }
        for lock in [PUT_LOCK, GET_LOCK] {
            if RobustMutex::find(memory.fixed(), lock).is_none() {
                return Err(invalid("a queue without its locks"));
            }
        }
        let bound = memory.fixed().atomic_u64(BOUND).load(Relaxed);
        Ok(Core::over(memory, bound))
    }

    fn over(memory: Growable, bound: u64) -> Core {
        let ring = Ring::new(memory, HEADER, Direction::There, Table::Long);
        ring.join();
        Core { ring, bound, writer: Mutex::default(), reader: Mutex::default(), alive_at: AtomicU64::new(0) }
    }

    pub(crate) fn memory(&self) -> &Growable {
        self.ring.memory()
    }

    fn fixed(&self) -> &Mapping {
        self.memory().fixed()
    }

    fn closed(&self) -> &AtomicU32 {
        self.fixed().atomic_u32(CLOSED)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed().load(Acquire) != 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.ring.len()
    }

    /// `None` when there is no bound.
    pub(crate) fn bound(&self) -> Option<u64> {
        (self.bound != u64::MAX).then_some(self.bound)
    }

    fn has_room(&self) -> bool {
        self.len() < self.bound
    }

    fn lock(&self, which: usize, deadline: Deadline) -> Result<Held<'_>, RawLockError> {
        let mutex = RobustMutex::at(self.fixed(), which);
        let acquired = mutex.lock(deadline)?;
        if acquired == Acquired::OwnerDied {
            if which == GET_LOCK {
                self.ring.mend_reader();
            }
            mutex.mark_consistent();
        }
        Ok(Held(mutex))
    }

    /// Puts an encoded message. `socket` is the producers' end of the lifelines; it is `watched` when the handle holds only
    /// that end, so that it can be seen cut.
    pub(crate) fn put(
        &self,
        message: Message<'_>,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        if watched && self.consumers_gone(socket) {
            return Err(Refused::Disconnected);
        }
        let handles = u16::try_from(message.handles.len()).map_err(|_| Refused::TooManyHandles)?;
        let record = Record { encoding: message.encoding, bytes: message.bytes, handles };
        let mut wait = Wait::default();
        while !self.put_once(record, &message.handles, socket, deadline)? {
            if deadline.passed() {
                return Err(Refused::TimedOut);
            }
            wait.sleep(self.ring.writer_asleep(), deadline, || self.has_room() || self.is_closed());
            if watched && packet::hung_up(socket) {
                return Err(Refused::Disconnected);
            }
        }
        self.wake(self.ring.reader_asleep());
        if wait.slept && self.has_room() {
            self.wake(self.ring.writer_asleep());
        }
        message.handles.sent();
        Ok(())
    }

    /// False when the queue is full.
    #[inline]
    fn put_once(
        &self,
        record: Record<'_>,
        handles: &Handles,
        socket: &Handle,
        deadline: Deadline,
    ) -> Result<bool, Refused> {
        let held = self.lock_for_put(deadline)?;
        mp_core::step!("queue.put", 1);
        if self.is_closed() {
            return Err(Refused::Closed);
        }
        let send_handles = |number| {
            let fds: Vec<BorrowedFd<'_>> = handles.fds().collect();
            packet::send_handles(socket, number, &fds)
        };
        let written = with_cache(&self.writer, |cache| {
            self.ring.write(cache, Growth::Always, self.bound, record, send_handles)
        });
        mp_core::step!("queue.put", 2);
        drop(held);
        mp_core::step!("queue.put", 3);
        match written {
            Ok(()) => Ok(true),
            Err(WriteError::Full) if self.bound == u64::MAX => Err(Refused::Io(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the queue has more regions than its table counts",
            ))),
            Err(WriteError::Full) => Ok(false),
            Err(WriteError::TooLong) => Err(Refused::TooLong),
            Err(WriteError::Io(error)) => Err(match error.kind() {
                io::ErrorKind::QuotaExceeded => Refused::TooManyHandles,
                io::ErrorKind::BrokenPipe => Refused::Disconnected,
                _ => Refused::Io(error),
            }),
        }
    }

    fn lock_for_put(&self, deadline: Deadline) -> Result<Held<'_>, Refused> {
        match self.lock(PUT_LOCK, lock_deadline(deadline)) {
            Ok(held) => Ok(held),
            Err(RawLockError::TimedOut) => Err(Refused::TimedOut),
            Err(error) => Err(Refused::Io(error.into())),
        }
    }

    fn consumers_gone(&self, socket: &Handle) -> bool {
        let now = park::ticks();
        if now.wrapping_sub(self.alive_at.load(Relaxed)) <= FRESH {
            return false;
        }
        self.alive_at.store(now, Relaxed);
        packet::hung_up(socket)
    }

    /// Takes the next message, its bytes appended to `bytes`; `None` when the time is over. `watched` as in
    /// [`put`](Core::put), of the consumers' end.
    pub(crate) fn get(
        &self,
        socket: &Handle,
        watched: bool,
        deadline: Deadline,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Taken>, GetError> {
        let mut wait = Wait::default();
        let mut last_look = None;
        loop {
            if !self.ring.is_empty()
                && let Some(taken) = self.get_once(socket, deadline, bytes)?
            {
                self.wake(self.ring.writer_asleep());
                if wait.slept && !self.ring.is_empty() {
                    self.wake(self.ring.reader_asleep());
                }
                return Ok(Some(taken));
            }
            // The news first, then one more look: what was put before is in the ring by then.
            if let Some(news) = last_look.take() {
                return Err(news);
            }
            last_look = self.end_of_queue(socket, watched);
            if last_look.is_some() {
                continue;
            }
            if deadline.passed() {
                return Ok(None);
            }
            let idle =
                wait.sleep(self.ring.reader_asleep(), deadline, || !self.ring.is_empty() || self.is_closed());
            if idle {
                self.give_back();
            }
        }
    }

    fn end_of_queue(&self, socket: &Handle, watched: bool) -> Option<GetError> {
        if self.is_closed() {
            return Some(GetError::Closed);
        }
        (watched && packet::hung_up(socket)).then_some(GetError::Disconnected)
    }

    /// `None` when another consumer was faster.
    fn get_once(
        &self,
        socket: &Handle,
        deadline: Deadline,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Taken>, GetError> {
        let held = match self.lock(GET_LOCK, lock_deadline(deadline)) {
            Ok(held) => held,
            Err(RawLockError::TimedOut) => return Ok(None),
            Err(error) => return Err(GetError::Io(error.into())),
        };
        mp_core::step!("queue.get", 1);
        let taken = with_cache(&self.reader, |cache| self.take(cache, socket, bytes));
        mp_core::step!("queue.get", 2);
        drop(held);
        mp_core::step!("queue.get", 3);
        taken
    }

    #[inline]
    fn take(
        &self,
        cache: &mut ReaderCache,
        socket: &Handle,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Taken>, GetError> {
        let Some(head) = self.ring.peek(cache).map_err(GetError::Io)? else { return Ok(None) };
        self.ring.copy_to(cache, &head, bytes).map_err(GetError::Io)?;
        self.ring.commit(cache, &head);
        let handles = receive_handles(&head, socket)?;
        Ok(Some(Taken { encoding: head.encoding, handles }))
    }

    /// After publishing or taking: wakes one sleeper, if there may be any.
    #[inline]
    fn wake(&self, word: &AtomicU32) {
        // On x86-64 the unlock before this was a full barrier already; elsewhere the sleeper's process-wide one is.
        self.ring.barrier_before_look();
        if word.load(Relaxed) != 0 && word.swap(0, AcqRel) != 0 {
            park::wake(word, 1);
        }
    }

    /// Wakes everybody: the queue was closed, or a lifeline was cut.
    pub(crate) fn wake_all(&self) {
        for word in [self.ring.reader_asleep(), self.ring.writer_asleep()] {
            word.store(0, Release);
            park::wake(word, u32::MAX);
        }
    }

    /// Nothing gets in any more.
    pub(crate) fn close(&self) -> io::Result<()> {
        let held = self.lock(PUT_LOCK, Deadline::NEVER)?;
        self.closed().store(1, Release);
        drop(held);
        self.wake_all();
        Ok(())
    }

    /// The queue was idle for a slice: large regions go back. Not worth waiting for anybody.
    fn give_back(&self) {
        let Ok(_get) = self.lock(GET_LOCK, Deadline::after(std::time::Duration::ZERO)) else { return };
        with_cache(&self.reader, |reader| {
            if reader.region_size() < IDLE_KEEPS || !self.ring.is_empty() {
                return;
            }
            let Ok(_put) = self.lock(PUT_LOCK, Deadline::after(std::time::Duration::ZERO)) else { return };
            // Failing leaves the memory where it is, for the next time.
            let _ = with_cache(&self.writer, |writer| self.ring.shrink(writer));
            let _ = self.ring.release_left_regions(reader);
        });
    }
}

/// The handles of the message that was just taken.
fn receive_handles(head: &Head, socket: &Handle) -> Result<Vec<OwnedFd>, GetError> {
    if head.handles == 0 {
        return Ok(Vec::new());
    }
    Inbox::default().take(socket, head.sequence, head.handles.into()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GetError::HandlesLost,
        io::ErrorKind::QuotaExceeded => GetError::TooManyHandles,
        _ => GetError::Io(error),
    })
}

/// Runs `body` with what this process remembers; with nothing remembered where that is taken (a child forked at the wrong moment).
#[inline]
fn with_cache<C: Default, R>(cache: &Mutex<C>, body: impl FnOnce(&mut C) -> R) -> R {
    match cache.try_lock() {
        Ok(mut cache) => body(&mut cache),
        Err(TryLockError::Poisoned(poisoned)) => {
            let mut remembered = poisoned.into_inner();
            *remembered = C::default();
            cache.clear_poison();
            body(&mut remembered)
        }
        Err(TryLockError::WouldBlock) => body(&mut C::default()),
    }
}

/// A lock is held for a copy's time only: even who wants no wait waits for that, but no longer when the holder is stopped.
fn lock_deadline(deadline: Deadline) -> Deadline {
    match deadline.left() {
        Some(left) if left < AT_ONCE => Deadline::after(AT_ONCE),
        _ => deadline,
    }
}

/// One operation's way to sleep: spin, then slices.
#[derive(Debug, Default)]
struct Wait {
    slept: bool,
}

impl Wait {
    /// Sleeps until `ready`, at most a slice; true when a whole slice passed without.
    #[cold]
    fn sleep(&mut self, word: &AtomicU32, deadline: Deadline, ready: impl Fn() -> bool) -> bool {
        thread_local! {
            static SPIN: std::cell::RefCell<Spin> = std::cell::RefCell::default();
        }
        if SPIN.with_borrow_mut(|spin| spin.until(u32::MAX, &ready)) {
            return false;
        }
        word.store(1, Relaxed);
        park::heavy_barrier();
        if ready() {
            // The word stays set: at worst it costs the other side one wake for nobody.
            return false;
        }
        park::sleep(word, 1, deadline.slice(SLICE));
        self.slept = true;
        // Others may sleep on the same word, and whoever woke this one has cleared it.
        let woken = word.swap(1, AcqRel) == 0;
        !woken && !ready()
    }
}
