//! A flag to wait for: see `raw/flag.rs` for how it works.
//!
//! | bytes of the payload | field |
//! | --- | --- |
//! | 0..4 | the word |
//! | 64..120 | the mutex of who makes it pollable |

use crate::raw::flag::{Bell, Flag};
use crate::raw::sync::Watch;
use crate::raw::{Acquired, RawLockError, RobustMutex};
use crate::spin::Spin;
use mp_core::{Deadline, Handle, Waitable};
use mp_shm::{Format, HEADER, Mapping, Segment, SharedMemory};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

const FORMAT: Format = crate::orphan::format(*b"EVNT", 0);
const WORD: usize = HEADER;
const MUTEX: usize = HEADER + 64;
const LENGTH: usize = 128;

const _: () = assert!(RobustMutex::SIZE <= LENGTH - 64);

/// A flag that any process sets or clears, and any number wait for.
///
/// Cloning it, or sending it to another process, gives another handle on the same event. It can be waited for beside
/// connections, queues and processes, with [`wait`](crate::wait()) or any poller: its descriptor is readable while it is set.
/// From the first such wait on, by whichever process, setting and clearing it takes a system call.
///
/// # When a process dies
///
/// - **Waiting**, or polling: nobody else notices; [`set`](Event::set) neither waits for waiters nor counts them.
/// - **Setting or clearing**: the flag is set or not. If it died before it could wake the waiters, they see it within 100 ms;
///   pollers see it at once.
///
/// # Examples
///
/// ```
/// let event = mp_lock::Event::new()?;
/// let waiter = std::thread::spawn({
///     let event = event.clone();
///     move || event.wait()
/// });
/// event.set();
/// waiter.join().expect("it waited");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Event(Arc<Inner>);

struct Inner {
    segment: Segment,
    bell: EventFd,
    spin: Spin,
}

impl Event {
    /// How many bytes of named memory it takes.
    pub const SIZE: usize = HEADER + LENGTH;

    /// Makes an event that is not set.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Event> {
        let segment = Segment::create(FORMAT, LENGTH)?;
        build(segment.map())?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Event::over(segment, Some(bell.into())))
    }

    /// Makes one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Event::open_in) it. It can only be waited for by
    /// itself: a name carries no descriptor that could be polled.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize) -> io::Result<Event> {
        Ok(Event::over(Segment::place(memory, offset, FORMAT, LENGTH, build)?, None))
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Event> {
        Event::whole(Segment::open_at(memory, offset, FORMAT)?, None)
    }

    fn whole(segment: Segment, bell: Option<Handle>) -> io::Result<Event> {
        if segment.len() < LENGTH || RobustMutex::find(segment.map(), MUTEX).is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no event in this memory"));
        }
        Ok(Event::over(segment, bell))
    }

    fn over(segment: Segment, bell: Option<Handle>) -> Event {
        Event(Arc::new(Inner { segment, bell: EventFd(bell), spin: Spin::default() }))
    }

    #[inline]
    fn flag(&self) -> Flag<'_, EventFd> {
        Flag::new(self.0.segment.map().atomic_u32(WORD), &self.0.bell)
    }

    /// Whether it is set. May change at any time.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag().is_set()
    }

    /// Sets the flag and wakes all who wait. Takes no lock, so a signal handler may call it.
    #[inline(always)]
    pub fn set(&self) {
        self.flag().set();
    }

    /// Clears the flag: those who wait from now on sleep.
    pub fn clear(&self) {
        self.flag().clear();
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        self.wait_until(Deadline::NEVER);
    }

    /// Waits at most `timeout`; whether it was set. Zero only looks, [`Duration::MAX`] waits for ever.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until `deadline`; whether it was set.
    #[must_use]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Deadline::at(deadline))
    }

    /// Waits until it is set, under any executor. No thread waits for it, and dropping the future loses nothing.
    ///
    /// A set that is cleared at once is not missed, but may be noticed a second later. An event in named memory has no descriptor: there
    /// the future looks again after a millisecond at first, and each 32 ms once it has waited for a while.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    #[cfg(feature = "async")]
    pub async fn wait_async(&self) -> io::Result<()> {
        /// Ready once the wait that began with `first` is over.
        struct Since<'a>(&'a Event, u32);

        impl Waitable for Since<'_> {
            fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
                self.0.polled()
            }

            fn is_ready(&self) -> io::Result<bool> {
                Ok(self.0.flag().done(self.1))
            }
        }

        let first = self.flag().look();
        if self.0.bell.0.is_some() {
            return mp_core::ready(&Since(self, first)).await;
        }
        let mut pace = crate::pace::Pace::default();
        while !self.flag().done(first) {
            pace.rest().await;
        }
        Ok(())
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        let flag = self.flag();
        let first = flag.look();
        // Who spins on a descriptor spins in system calls.
        if flag.done(first) || (!flag.is_polled() && self.0.spin.until(|| flag.done(first))) {
            return true;
        }
        flag.wait(first, Watch::until(deadline))
    }

    /// The descriptor that is readable while it is set, from now on.
    fn polled(&self) -> io::Result<BorrowedFd<'_>> {
        let Some(bell) = &self.0.bell.0 else {
            let text = "an event in named memory has no descriptor to poll: wait for it by itself, or send an anonymous one";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let flag = self.flag();
        if !flag.is_polled() {
            let mutex = RobustMutex::at(self.0.segment.map(), MUTEX);
            match mutex.lock(Deadline::NEVER) {
                // Whoever died in there left nothing that the next does not do again.
                Ok(Acquired::OwnerDied) => mutex.mark_consistent(),
                Ok(Acquired::Clean) => {}
                Err(error @ RawLockError::AlreadyHeld) => return Err(error.into()),
                Err(error) => return Err(error.into()),
            }
            flag.poll_from_now_on();
            mutex.unlock();
        }
        Ok(bell.as_fd())
    }
}

fn build(map: &Mapping) -> io::Result<()> {
    RobustMutex::init(map, MUTEX)
}

impl Waitable for Event {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.polled()
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.is_set())
    }
}

/// For pollers of your own: readable while the event is set. Only poll it: reading from it would clear the event without anybody
/// knowing.
///
/// # Panics
///
/// For an event in named memory, which has no descriptor; and when the system refuses to lock a mutex.
impl AsFd for Event {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.polled() {
            Ok(fd) => fd,
            Err(error) => panic!("{error}"),
        }
    }
}

/// As [`AsFd`].
impl AsRawFd for Event {
    #[track_caller]
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The kernel's counter: it is readable while it is not zero.
struct EventFd(Option<Handle>);

impl Bell for EventFd {
    fn ring(&self) {
        if let Some(fd) = &self.0 {
            // What was written before the event is set is seen by who finds it set: pairs with the fence in `rings`.
            fence(Ordering::Release);
            retry(|| rustix::io::write(fd, &1_u64.to_ne_bytes()));
        }
    }

    fn hush(&self) {
        if let Some(fd) = &self.0 {
            retry(|| rustix::io::read(fd, &mut [0; 8]));
        }
    }

    fn rings(&self) -> bool {
        let Some(fd) = &self.0 else { return false };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let rings =
            retry(|| poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now))).is_some_and(|ready| ready > 0);
        fence(Ordering::Acquire);
        rings
    }
}

/// `AGAIN`: it rings already, or is silent already.
fn retry<R>(mut call: impl FnMut() -> Result<R, Errno>) -> Option<R> {
    loop {
        match call() {
            Ok(done) => return Some(done),
            Err(Errno::INTR) => {}
            Err(error) => {
                debug_assert_eq!(error, Errno::AGAIN, "an eventfd");
                return None;
            }
        }
    }
}

fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    let nonblocking =
        rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK));
    let what = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    nonblocking && what.is_ok_and(|what| what.as_os_str() == "anon_inode:[eventfd]")
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("polled", &self.flag().is_polled())
            .finish_non_exhaustive()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0.segment, &self.0.bell.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Event, D::Error> {
        let (segment, bell) = <(Received, Option<Handle>)>::deserialize(deserializer)?;
        if bell.as_ref().is_some_and(|bell| !is_eventfd(bell.as_fd())) {
            return Err(D::Error::custom("its descriptor is not an event's"));
        }
        Event::whole(segment.0, bell).map_err(D::Error::custom)
    }
}

/// The memory of an event in a message.
struct Received(Segment);

impl<'de> Deserialize<'de> for Received {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Received, D::Error> {
        Segment::deserialize_as(deserializer, FORMAT).map(Received)
    }
}
