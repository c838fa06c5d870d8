//! Locks and events for programs written against the traits of the [`raw_sync`](https://docs.rs/raw_sync) crate, that
//! survive the death of whoever holds or awaits them.
//!
//! Replace `raw_sync::locks::Mutex` by [`RobustMutex`] and `raw_sync::events::Event` by [`FutexEvent`]; the traits, which are
//! re-exported here, stay. Both sides must be replaced together: the memory looks different.
//!
//! | with raw_sync's own | here |
//! | --- | --- |
//! | a killed holder keeps the lock for ever | the next one gets it at once; [`RobustMutex::owner_died`] tells |
//! | a killed waiter of an event makes a later `set` hang | `set` neither waits for waiters nor counts them |
//! | time-outs fail at once, or follow the wall clock | they last as long as they say, on the monotonic clock |
//! | any process can release what another holds | only the holder's thread can; others get an error |
//! | locking twice in a thread hangs | [`LockError::AlreadyHeld`] |
//! | memory that was never initialised is taken for a lock | `from_existing` refuses it |
//! | errors are text | [`LockError`] and [`EventError`], by `downcast_ref` |
//! | handles cannot cross threads | [`RobustMutex`] and [`FutexEvent`] are `Send + Sync` (the traits' boxes cannot be) |
//!
//! # Examples
//!
//! ```
//! use mp_lock::raw_sync::{LockImpl, LockInit, RobustMutex, Timeout};
//!
//! let mut memory = [0_u64; 16];
//! let mut guarded = 7_u8;
//! // In a program, the memory is shared, and the other process calls `from_existing`.
//! // SAFETY: the memory is large enough, and outlives the lock.
//! let (lock, used) = unsafe { RobustMutex::new(memory.as_mut_ptr().cast(), &raw mut guarded) }?;
//! assert!(used <= size_of_val(&memory));
//! let guard = lock.try_lock(Timeout::Val(std::time::Duration::from_secs(1)))?;
//! drop(guard);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![expect(unsafe_code, reason = "traits over raw memory, as raw_sync declares them")]

use crate::LockError;
use crate::error::Refusal;
use crate::raw::{Acquired, RawLockError};
use crate::sys::pthread;
use libc::pthread_mutex_t;
use mp_core::deadline::SLICE;
use mp_core::{Deadline, park};
use std::error::Error;
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

pub use raw_sync::Timeout;
pub use raw_sync::events::{EventImpl, EventInit, EventState};
pub use raw_sync::locks::{LockGuard, LockImpl, LockInit, ReadLockGuard};

/// What the traits return.
type Boxed<T> = Result<T, Box<dyn Error>>;

fn until(timeout: Timeout) -> Deadline {
    match timeout {
        Timeout::Infinite => Deadline::NEVER,
        Timeout::Val(duration) => Deadline::after(duration),
    }
}

/// How many bytes to skip from `memory` on for a `T`.
fn padding<T>(memory: *mut u8) -> usize {
    memory.addr().next_multiple_of(align_of::<T>()) - memory.addr()
}

/// The place of a `T` in `memory`, and how many bytes of it that takes.
fn place<T>(memory: *mut u8) -> (*mut T, usize) {
    let skip = padding::<T>(memory);
    (memory.wrapping_add(skip).cast(), skip + size_of::<T>())
}

fn size<T>(address: Option<*mut u8>) -> usize {
    // Without an address, enough for any.
    address.map_or(align_of::<T>() - 1, padding::<T>) + size_of::<T>()
}

#[repr(C)]
struct LockPlace {
    mutex: pthread_mutex_t,
    mark: AtomicU32,
    died: AtomicU32,
}

const LOCK_MARK: u32 = u32::from_ne_bytes(*b"rsm1");

/// A lock with `raw_sync`'s traits that survives its holder.
///
/// # When a process dies
///
/// - **Holding it** (or its thread ends): the next `lock` gets it at once. `raw_sync`'s guards have no place for the
///   news, so it is kept beside the lock: [`owner_died`](RobustMutex::owner_died) says so until
///   [`mark_recovered`](RobustMutex::mark_recovered).
/// - **Waiting for it**: nobody else notices.
///
/// A guard must not be dropped in a forked child: `raw_sync`'s guards panic when they cannot release.
pub struct RobustMutex {
    place: *mut LockPlace,
    data: *mut u8,
    /// `raw_sync`'s lock on the very same mutex: nobody else can make its guards.
    inner: Box<dyn LockImpl>,
}

// SAFETY: the mutex may be used from any thread, `inner` is nothing but two pointers, and the pointer to the data, which
// it lets out, is written only by who holds the mutex.
unsafe impl Send for RobustMutex {}
// SAFETY: as above.
unsafe impl Sync for RobustMutex {}

impl RobustMutex {
    /// As [`LockInit::new`], with the type.
    ///
    /// # Errors
    ///
    /// When the system has no such mutexes.
    ///
    /// # Safety
    ///
    /// `memory` must be writable for [`size_of`](LockInit::size_of) bytes, used by nobody else yet, and stay mapped as
    /// long as the lock is used, or held by a thread of this process.
    pub unsafe fn create(memory: *mut u8, data: *mut u8) -> io::Result<(RobustMutex, usize)> {
        let (place, used) = place::<LockPlace>(memory);
        // SAFETY: inside of the memory that the caller vouches for; any bytes are a valid atomic.
        unsafe { &(*place).mark }.store(0, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { &(*place).died }.store(0, Ordering::Relaxed);
        // SAFETY: as above.
        pthread::init(unsafe { &raw mut (*place).mutex }, libc::PTHREAD_MUTEX_RECURSIVE)?;
        // SAFETY: as above.
        unsafe { &(*place).mark }.store(LOCK_MARK, Ordering::Release);
        // SAFETY: initialised above.
        Ok((unsafe { RobustMutex::on(place, data) }?, used))
    }

    /// As [`LockInit::from_existing`], with the type.
    ///
    /// # Errors
    ///
    /// `InvalidData` when no lock was [created](RobustMutex::create) there (yet).
    ///
    /// # Safety
    ///
    /// `memory` must be readable and writable for [`size_of`](LockInit::size_of) bytes, and stay mapped as long as the
    /// lock is used, or held by a thread of this process.
    pub unsafe fn attach(memory: *mut u8, data: *mut u8) -> io::Result<(RobustMutex, usize)> {
        let (place, used) = place::<LockPlace>(memory);
        // SAFETY: inside of the memory that the caller vouches for; any bytes are a valid atomic.
        if unsafe { &(*place).mark }.load(Ordering::Acquire) != LOCK_MARK {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no lock was initialised in this memory"));
        }
        // SAFETY: the mark is stored last, so the mutex is initialised.
        Ok((unsafe { RobustMutex::on(place, data) }?, used))
    }

    /// # Safety
    ///
    /// A lock must have been initialised at `place`.
    unsafe fn on(place: *mut LockPlace, data: *mut u8) -> io::Result<RobustMutex> {
        // SAFETY: the mutex is the first field, so aligned that raw_sync skips nothing.
        let inner = unsafe { raw_sync::locks::Mutex::from_existing(place.cast(), data) };
        let (inner, _) = inner.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(RobustMutex { place, data, inner })
    }

    fn died(&self) -> &AtomicU32 {
        // SAFETY: initialised, and mapped as long as the lock is used, as `create` and `attach` demand.
        unsafe { &(*self.place).died }
    }

    /// Whether a holder died and nobody has marked the lock as recovered since. Ask with the lock held.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.died().load(Ordering::Acquire) != 0
    }

    /// What the lock guards is in good order again. Call with the lock held.
    pub fn mark_recovered(&self) {
        self.died().store(0, Ordering::Release);
    }

    fn mutex(&self) -> *mut pthread_mutex_t {
        self.place.cast()
    }

    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_>, LockError> {
        // The mutex is recursive, for the sake of raw_sync's guard below; a thread's second lock is an error all the same.
        // SAFETY: initialised, see `died`.
        if unsafe { pthread::owner(self.mutex()) }.is_some_and(pthread::is_this_thread) {
            return Err(LockError::AlreadyHeld);
        }
        // SAFETY: as above.
        let mut acquired = unsafe { pthread::try_lock(self.mutex()) };
        if acquired == Err(RawLockError::TimedOut) {
            // SAFETY: as above.
            acquired = unsafe { pthread::lock_in_slices(self.mutex(), deadline, |_| false) };
        }
        match acquired {
            Ok(Acquired::Clean) => {}
            Ok(Acquired::OwnerDied) => self.adopt(),
            Err(error) => return Err(refused(error)),
        }
        mp_core::step!("raw_sync.lock", 3);
        let guard = self.inner.lock();
        // SAFETY: as above; held twice now, once for the guard.
        unsafe { pthread::unlock(self.mutex()) };
        let guard = guard.map_err(|_| LockError::Os(libc::EAGAIN))?;
        // A guard lets safe code replace the pointer to the data; the next holder starts with the right one again.
        // SAFETY: only the holder, which we are, touches it.
        *unsafe { self.inner.get_inner() } = self.data;
        Ok(guard)
    }

    #[cold]
    fn adopt(&self) {
        mp_core::step!("raw_sync.lock", 1);
        self.died().store(1, Ordering::Release);
        mp_core::step!("raw_sync.lock", 2);
        // SAFETY: as in `lock_until`.
        unsafe { pthread::mark_consistent(self.mutex()) };
    }
}

fn refused(error: RawLockError) -> LockError {
    match Refusal::from(error) {
        Refusal::AlreadyHeld => LockError::AlreadyHeld,
        Refusal::Os(errno) => LockError::Os(errno),
        Refusal::NotNow | Refusal::TooMany => LockError::TimedOut,
    }
}

impl fmt::Debug for RobustMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustMutex").field("owner_died", &self.owner_died()).finish_non_exhaustive()
    }
}

impl LockInit for RobustMutex {
    fn size_of(address: Option<*mut u8>) -> usize {
        size::<LockPlace>(address)
    }

    unsafe fn new(memory: *mut u8, data: *mut u8) -> Boxed<(Box<dyn LockImpl>, usize)> {
        // SAFETY: the caller's promise is the same.
        let (lock, used) = unsafe { RobustMutex::create(memory, data) }?;
        Ok((Box::new(lock), used))
    }

    unsafe fn from_existing(memory: *mut u8, data: *mut u8) -> Boxed<(Box<dyn LockImpl>, usize)> {
        // SAFETY: the caller's promise is the same.
        let (lock, used) = unsafe { RobustMutex::attach(memory, data) }?;
        Ok((Box::new(lock), used))
    }
}

impl LockImpl for RobustMutex {
    fn as_raw(&self) -> *mut c_void {
        self.place.cast()
    }

    fn lock(&self) -> Boxed<LockGuard<'_>> {
        Ok(self.lock_until(Deadline::NEVER)?)
    }

    fn try_lock(&self, timeout: Timeout) -> Boxed<LockGuard<'_>> {
        Ok(self.lock_until(until(timeout))?)
    }

    fn release(&self) -> Boxed<()> {
        // SAFETY: initialised, see `died`; a thread that does not hold it is refused.
        match unsafe { pthread::unlock(self.mutex()) } {
            true => Ok(()),
            false => Err(Box::new(LockError::Os(libc::EPERM))),
        }
    }

    unsafe fn get_inner(&self) -> &mut *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { self.inner.get_inner() }
    }
}

/// Why waiting for a [`FutexEvent`] ended without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The time was over.
    TimedOut,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event was not set in time")
    }
}

impl Error for EventError {}

#[repr(C)]
struct EventPlace {
    mark: AtomicU32,
    auto: AtomicU32,
    /// 0 clear, 1 set.
    word: AtomicU32,
}

const EVENT_MARK: u32 = u32::from_ne_bytes(*b"rse1");

/// An event with `raw_sync`'s traits that survives whoever waits for it.
///
/// # When a process dies
///
/// - **Waiting**: nobody else notices. If it had been woken for an event that resets itself, another waiter sees the
///   event within 100 ms.
/// - **Setting**: the event is set or not; if the wake is missing, waiters see it within 100 ms.
pub struct FutexEvent(*const EventPlace);

// SAFETY: the place holds nothing but atomics.
unsafe impl Send for FutexEvent {}
// SAFETY: as above.
unsafe impl Sync for FutexEvent {}

impl FutexEvent {
    /// As [`EventInit::new`], with the type. `auto_reset`: each set lets one waiter pass and is cleared by it.
    ///
    /// # Safety
    ///
    /// `memory` must be writable for [`size_of`](EventInit::size_of) bytes, used by nobody else yet, and stay mapped as
    /// long as the event is used.
    #[must_use]
    pub unsafe fn create(memory: *mut u8, auto_reset: bool) -> (FutexEvent, usize) {
        let (place, used) = place::<EventPlace>(memory);
        let fresh = EventPlace {
            mark: AtomicU32::new(0),
            auto: AtomicU32::new(u32::from(auto_reset)),
            word: AtomicU32::new(0),
        };
        // SAFETY: inside of the memory that the caller vouches for, and aligned.
        unsafe { place.write(fresh) };
        let event = FutexEvent(place);
        event.place().mark.store(EVENT_MARK, Ordering::Release);
        (event, used)
    }

    /// As [`EventInit::from_existing`], with the type.
    ///
    /// # Errors
    ///
    /// `InvalidData` when no event was [created](FutexEvent::create) there (yet).
    ///
    /// # Safety
    ///
    /// `memory` must be readable and writable for [`size_of`](EventInit::size_of) bytes, and stay mapped as long as the
    /// event is used.
    pub unsafe fn attach(memory: *mut u8) -> io::Result<(FutexEvent, usize)> {
        let (place, used) = place::<EventPlace>(memory);
        let event = FutexEvent(place);
        if event.place().mark.load(Ordering::Acquire) != EVENT_MARK {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no event was initialised in this memory",
            ));
        }
        Ok((event, used))
    }

    fn place(&self) -> &EventPlace {
        // SAFETY: aligned, and mapped as long as the event is used, as `create` and `attach` demand; atomics only.
        unsafe { &*self.0 }
    }

    /// Whether the event is set; takes it if it resets itself.
    fn take(&self) -> bool {
        let EventPlace { auto, word, .. } = self.place();
        match auto.load(Ordering::Relaxed) {
            0 => word.load(Ordering::Acquire) == 1,
            _ => word.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok(),
        }
    }

    fn wait_until(&self, deadline: Deadline) -> Result<(), EventError> {
        loop {
            if self.take() {
                return Ok(());
            }
            if deadline.passed() {
                return Err(EventError::TimedOut);
            }
            park::sleep(&self.place().word, 0, deadline.slice(SLICE));
            mp_core::step!("raw_sync.wait", 1);
        }
    }
}

impl fmt::Debug for FutexEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.place().word.load(Ordering::Relaxed) == 1;
        f.debug_struct("FutexEvent").field("set", &set).finish_non_exhaustive()
    }
}

impl EventInit for FutexEvent {
    fn size_of(address: Option<*mut u8>) -> usize {
        size::<EventPlace>(address)
    }

    unsafe fn new(memory: *mut u8, auto_reset: bool) -> Boxed<(Box<dyn EventImpl>, usize)> {
        // SAFETY: the caller's promise is the same.
        let (event, used) = unsafe { FutexEvent::create(memory, auto_reset) };
        Ok((Box::new(event), used))
    }

    unsafe fn from_existing(memory: *mut u8) -> Boxed<(Box<dyn EventImpl>, usize)> {
        // SAFETY: the caller's promise is the same.
        let (event, used) = unsafe { FutexEvent::attach(memory) }?;
        Ok((Box::new(event), used))
    }
}

impl EventImpl for FutexEvent {
    fn wait(&self, timeout: Timeout) -> Boxed<()> {
        Ok(self.wait_until(until(timeout))?)
    }

    fn set(&self, state: EventState) -> Boxed<()> {
        let EventPlace { auto, word, .. } = self.place();
        match state {
            EventState::Clear => word.store(0, Ordering::Release),
            EventState::Signaled => {
                word.store(1, Ordering::Release);
                mp_core::step!("raw_sync.set", 1);
                let count = if auto.load(Ordering::Relaxed) == 0 { u32::MAX } else { 1 };
                park::wake(word, count);
                mp_core::step!("raw_sync.set", 2);
            }
        }
        Ok(())
    }
}
