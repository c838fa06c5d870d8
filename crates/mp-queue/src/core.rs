//! The queue itself: a growing ring with a robust lock at each end.
//!
//! | who | under which lock | does |
//! | --- | --- | --- |
//! | producer | the put lock | checks closed and bound, sends handles, writes and publishes the record |
//! | consumer | the get lock | copies the record out, commits the take, receives its handles |
//! | closer | the put lock | sets `closed`: afterwards nothing more gets in |
//! | a consumer that finds nothing | the get lock, then tries the put lock | gives large regions back, discards strays |
//!
//! | word | set by | meaning |
//! | --- | --- | --- |
//! | `bound` | the creator | how many messages it holds; `u64::MAX` without a bound |
//! | `closed` | a closer | 1: nothing more gets in. Never cleared |
//! | `departures` | whoever drops an end | changes when an end was dropped: the lifelines are worth a look |
//! | `strays` | producers, consumers | 1: handles may lie in the socket that no record asks for |
//! | `polled`, two | who asks for a descriptor | 1: the bell of values, or of room, is rung (see [`raw::bell`](crate::raw::bell)) |
//!
//! Invariants:
//! 1. Encoding and decoding, which run users' code, happen outside of the locks; under them nobody sleeps or allocates
//!    without bound. So a lock is held for a copy, and "empty" and "full" are exact.
//! 2. The ring says what is inside (see its page); a death under a lock leaves it whole. The next owner of the get
//!    lock finishes giving back memory, the next one of the put lock gives back what the dead one had only prepared.
//! 3. Who may sleep sets the sleep word, passes a process-wide barrier, and looks again; who published looks at the word after.
//!    Several may sleep on one word and one is woken: he sets the word again before he looks, since he cannot know
//!    whether he was the only one, and passes the wake on when something is left, however his own operation ends. A wake
//!    that died with the woken one is made good within a slice.
//! 4. Handles go over a socket: the number is advanced first, so that a dead producer's is never used again; they are sent
//!    before the record is published, and received after the take was committed. A receiver discards lower numbers.
//! 5. Handles that were sent for a record that never came are strays. They keep the socket full and lifelines of other
//!    queues alive, so they are discarded as soon as a consumer finds the queue empty: with both locks held and nothing
//!    inside, all that lies in the socket is stray.
//! 6. The two ends of that socket are the lifelines: producers hold one, consumers the other, a whole queue both. An end
//!    is closed first and `departures` counted after, so who sees the count sees the hang-up.
//! 7. Under one of the locks the other is only tried: no order of deaths makes a circle.
//! 8. The bell of values is rung and silenced under the put lock, which excludes producers and closers. That of room is rung under the
//!    get lock, by closers under the put lock, and silenced under both.

use crate::bell::Bell;
use crate::claims::Claims;
use crate::wait::Wait;
use mp_core::deadline::{Deadline, SLICE};
use mp_core::park::{self, Gather};
use mp_lock::raw::{Acquired, Guard, Guarded, RawLockError, RobustMutex};
use mp_pipe::packet;
use mp_pipe::ring::{Direction, ReaderCache, Ring, Table, WriterCache};
use mp_shm::{Format, Growable, HEADER, View};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};
use std::time::Duration;
use std::{fmt, io};

pub(crate) const FORMAT: Format = Format::plain(*b"QUEU", 1);

const CONTROL: usize = HEADER + Table::Long.fixed();
const PUT_LOCK: usize = CONTROL;
const GET_LOCK: usize = CONTROL + 128;
const BOUND: usize = CONTROL + 256;
const WORDS: usize = CONTROL + 264;
pub(crate) const FIXED: usize = Table::Long.fixed() + 384;
const _: () = assert!(RobustMutex::SIZE <= 128);

/// The small words, in the order in which they lie from [`WORDS`] on.
const CLOSED: usize = 0;
const DEPARTURES: usize = 1;
const STRAYS: usize = 2;
pub(crate) const VALUES_POLLED: usize = 3;
pub(crate) const ROOM_POLLED: usize = 4;

/// "At once" still waits so long for a lock, which nobody holds longer than a copy takes, unless it was stopped.
pub(crate) const AT_ONCE: Duration = SLICE;

/// How often a poller tries again past its time when something came as it fell silent, and was gone when it looked.
pub(crate) const TURNS: u32 = 8;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) ring: Ring,
    pub(crate) bound: u64,
    pub(crate) words: View<[AtomicU32; 5]>,
    /// The shared lock of either side, with what this process remembers of that side.
    pub(crate) put_lock: Guarded<WriterCache>,
    pub(crate) get_lock: Guarded<ReaderCache>,
    /// How many messages had been published when this process last looked: a consumer need not look before it has taken these.
    pub(crate) seen: AtomicU64,
    gather: AtomicU16,
    /// How many large values this process has got since it last waited in vain.
    pub(crate) large: AtomicU32,
    /// When consumers were last known to live, and how many departures there had been.
    pub(crate) alive_at: AtomicU64,
    pub(crate) departures_seen: AtomicU32,
    /// Whether handles went through here: see [`Core::end_dropped`].
    pub(crate) carried: AtomicBool,
    pub(crate) bells: Bells,
    /// Of a queue that can be joined.
    pub(crate) claims: Option<Claims>,
    /// Whether somebody in this process polls for values, or for room: then it silences the bells.
    pub(crate) polls_values: AtomicBool,
    pub(crate) polls_room: AtomicBool,
}

/// The bell for those who get, and on a queue with a bound the one for those who put.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bells {
    pub(crate) values: Bell,
    pub(crate) room: Option<Bell>,
}

/// The two shared locks, held.
pub(crate) type PutGuard<'a> = Guard<'a, WriterCache>;
pub(crate) type GetGuard<'a> = Guard<'a, ReaderCache>;

impl Core {
    pub(crate) fn create(bound: u64, claims: Option<Claims>) -> io::Result<Core> {
        let memory = Growable::create(FORMAT, FIXED)?;
        RobustMutex::init(memory.fixed(), PUT_LOCK)?;
        RobustMutex::init(memory.fixed(), GET_LOCK)?;
        memory.fixed().atomic_u64(BOUND).store(bound, Relaxed);
        let room = if bound == u64::MAX { None } else { Some(Bell::new()?) };
        Core::over(memory, bound, Bells { values: Bell::new()?, room }, claims)
    }

    /// The queue in memory that came from elsewhere.
    pub(crate) fn open(memory: Growable, bells: Bells, claims: Option<Claims>) -> io::Result<Core> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if !memory.same_pid_namespace() {
            return Err(invalid(
                "a queue from another pid namespace: the owners of its locks could not be told",
            ));
        }
        let bound = memory.fixed().atomic_u64(BOUND).load(Relaxed);
        Core::over(memory, bound, bells, claims)
    }

    fn over(memory: Growable, bound: u64, bells: Bells, claims: Option<Claims>) -> io::Result<Core> {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a queue without its locks");
        let put_lock = Guarded::find(&memory, PUT_LOCK).ok_or_else(missing)?;
        let get_lock = Guarded::find(&memory, GET_LOCK).ok_or_else(missing)?;
        let words = memory.view(WORDS);
        let ring = Ring::new(memory, HEADER, Direction::There, Table::Long);
        ring.join();
        Ok(Core {
            ring,
            bound,
            words,
            put_lock,
            get_lock,
            seen: AtomicU64::new(0),
            gather: AtomicU16::new(Gather::default().pack()),
            large: AtomicU32::new(0),
            // As long ago as can be: the first look is never spared.
            alive_at: AtomicU64::new(1 << 63),
            departures_seen: AtomicU32::new(0),
            carried: AtomicBool::new(false),
            bells,
            claims,
            polls_values: AtomicBool::new(false),
            polls_room: AtomicBool::new(false),
        })
    }

    pub(crate) fn memory(&self) -> &Growable {
        self.ring.memory()
    }

    fn closed(&self) -> &AtomicU32 {
        &self.words[CLOSED]
    }

    fn departures_word(&self) -> &AtomicU32 {
        &self.words[DEPARTURES]
    }

    /// One when handles may lie in the socket that no record asks for.
    pub(crate) fn strays(&self) -> &AtomicU32 {
        &self.words[STRAYS]
    }

    /// Changes when an end was dropped somewhere: then the lifelines are worth a look.
    pub(crate) fn departures(&self) -> u32 {
        self.departures_word().load(Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed().load(Acquire) != 0
    }

    /// How many messages can be got.
    pub(crate) fn len(&self) -> u64 {
        let returned = self.claims.as_ref().filter(|claims| claims.may_have_returned());
        // Damaged memory may count anything.
        self.ring.len().saturating_add(returned.map_or(0, |claims| claims.unfinished().1))
    }

    /// Whether there may be something to get.
    #[inline]
    pub(crate) fn has_something(&self) -> bool {
        !self.ring.is_empty() || self.claims.as_ref().is_some_and(Claims::may_have_returned)
    }

    /// As [`has_something`](Core::has_something), without a look at what producers write as long as something is known to be there.
    /// Between two looks others may have taken it.
    #[inline(always)]
    pub(crate) fn may_have_something(&self) -> bool {
        let known = self.seen.load(Relaxed).wrapping_sub(self.ring.taken()).cast_signed();
        known > 0 || self.look_for_something()
    }

    fn look_for_something(&self) -> bool {
        let (mut published, taken) = (self.ring.published(), self.ring.taken());
        if published != taken {
            // Threads that wait side by side may each learn from what the other has learnt.
            let learnt = self.gather.load(Relaxed);
            let mut gather = Gather::unpack(learnt);
            published = gather.more(published, published.wrapping_sub(taken), || self.ring.published());
            if gather.pack() != learnt {
                self.gather.store(gather.pack(), Relaxed);
            }
        }
        // Release: whoever takes this for what is there may read it.
        self.seen.store(published, Release);
        published != taken || self.claims.as_ref().is_some_and(Claims::may_have_returned)
    }

    /// `None` when there is no bound.
    pub(crate) fn bound(&self) -> Option<u64> {
        (self.bound != u64::MAX).then_some(self.bound)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.ring.len() < self.bound
    }

    #[inline(always)]
    pub(crate) fn lock_put(&self, deadline: Deadline) -> Result<PutGuard<'_>, RawLockError> {
        let (acquired, guard) = self.put_lock.lock(deadline)?;
        if acquired == Acquired::OwnerDied {
            self.mend_put_side();
            guard.mark_consistent();
        }
        Ok(guard)
    }

    #[inline(always)]
    pub(crate) fn lock_get(&self, deadline: Deadline) -> Result<GetGuard<'_>, RawLockError> {
        let (acquired, guard) = self.get_lock.lock(deadline)?;
        if acquired == Acquired::OwnerDied {
            self.mend_get_side();
            guard.mark_consistent();
        }
        Ok(guard)
    }

    pub(crate) fn lock_put_if_free(&self) -> Option<PutGuard<'_>> {
        self.lock_put(Deadline::after(Duration::ZERO)).ok()
    }

    pub(crate) fn lock_get_if_free(&self) -> Option<GetGuard<'_>> {
        self.lock_get(Deadline::after(Duration::ZERO)).ok()
    }

    /// Finishes what a dead owner of the get lock may have left half-done; may itself be begun again.
    #[cold]
    pub(crate) fn mend_get_side(&self) {
        self.ring.mend_reader();
        if let Some(claims) = &self.claims {
            claims.mend(self.ring.taken());
        }
    }

    /// As [`mend_get_side`](Core::mend_get_side), of the put lock.
    #[cold]
    pub(crate) fn mend_put_side(&self) {
        self.strays().store(1, Relaxed);
        self.ring.mend_writer();
    }

    /// What `Debug` of its handles shows.
    pub(crate) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct(name);
        out.field("len", &self.len()).field("bound", &self.bound()).field("closed", &self.is_closed());
        out.finish()
    }

    /// After publishing or taking: wakes one sleeper, if there may be any.
    #[inline]
    pub(crate) fn wake(&self, word: &AtomicU32) {
        // On x86-64 the unlock before this was a full barrier already; elsewhere the sleeper's process-wide one is.
        if self.ring.must_wake(word) {
            // Who is woken may spin for the next message, or for room: not for somebody on his own core.
            let woken_by_a_producer = std::ptr::eq(word, self.ring.reader_asleep());
            self.ring.announce_core(if woken_by_a_producer {
                self.ring.writer_core()
            } else {
                self.ring.reader_core()
            });
            park::wake(word, 1);
        }
    }

    /// After an operation that slept, however it ended: the one wake it got may have been meant for others as well.
    #[inline]
    pub(crate) fn pass_on(&self, wait: &Wait, word: &AtomicU32, something_left: impl Fn() -> bool) {
        if wait.slept && something_left() {
            self.wake(word);
        }
    }

    /// Wakes everybody: the queue was closed, or an end was dropped.
    fn wake_all(&self) {
        for word in [self.ring.reader_asleep(), self.ring.writer_asleep()] {
            word.store(0, Release);
            park::wake(word, u32::MAX);
        }
    }

    /// Nothing gets in any more; false when the time was over before whoever puts had given the lock back.
    pub(crate) fn close(&self, deadline: Deadline) -> io::Result<bool> {
        let held = match self.lock_put(lock_deadline(deadline)) {
            Ok(held) => held,
            Err(RawLockError::TimedOut) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Before it is so: a death in between is a ring for nothing.
        self.bells.values.ring();
        if let Some(room) = &self.bells.room {
            room.ring();
        }
        mp_core::step!("queue.close", 1);
        self.closed().store(1, Release);
        mp_core::step!("queue.close", 2);
        drop(held);
        self.wake_all();
        Ok(true)
    }

    /// An end was closed in this process: perhaps the last one. Who was killed before is noticed within a slice.
    pub(crate) fn end_dropped(&self) {
        self.departures_word().fetch_add(1, Release);
        self.wake_all();
        if self.carried.load(Relaxed) {
            // Sockets that travel through each other (a queue put into itself) keep each other alive; the kernel looks
            // for such circles when some socket is closed, which the last copy of one inside of a circle never is.
            drop(packet::pair());
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nobody in this process can call these done any more.
        let left = self.claims.as_mut().map(Claims::leave).unwrap_or_default();
        left.into_iter().for_each(|claimed| _ = self.give_claim_back(claimed));
        if self.keeps_memory()
            && let Some(mut get) = self.lock_get_if_free()
        {
            self.leave_large_region(get.local());
        }
    }
}

/// A lock is held for a copy's time only: even who wants no wait waits for that, but no longer when the holder is stopped.
pub(crate) fn lock_deadline(deadline: Deadline) -> Deadline {
    match deadline.left() {
        Some(left) if left < AT_ONCE => Deadline::after(AT_ONCE),
        _ => deadline,
    }
}
