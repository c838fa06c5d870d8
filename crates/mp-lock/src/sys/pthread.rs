//! The C library's calls for one robust process-shared mutex, and the word in it that the kernel knows.

#![expect(unsafe_code, reason = "robust process-shared mutexes exist only in pthread")]

use super::robust::{Acquired, RawLockError};
use crate::raw::owner::{OWNER_DIED, TID_MASK, WAITERS, give};
use libc::{c_int, pthread_mutex_t, pthread_mutexattr_t};
use mp_core::deadline::SLICE;
use mp_core::{Deadline, Identity};
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where pthread keeps the word that the kernel knows: the owner's thread id, and two flags. The ABI of robust futexes.
const WORD: usize = if cfg!(target_env = "musl") { 4 } else { 0 };

/// Initialises a robust process-shared mutex of `kind` at `mutex`.
pub(crate) fn init(mutex: *mut pthread_mutex_t, kind: c_int) -> io::Result<()> {
    let mut attributes = MaybeUninit::<pthread_mutexattr_t>::uninit();
    let attr = attributes.as_mut_ptr();
    // SAFETY: `attr` is writable for the attributes.
    check(unsafe { libc::pthread_mutexattr_init(attr) })?;
    let result = init_with(mutex, attr, kind);
    // SAFETY: initialised above, not used after this.
    let answer = unsafe { libc::pthread_mutexattr_destroy(attr) };
    debug_assert_eq!(answer, 0, "pthread_mutexattr_destroy");
    result
}

fn init_with(mutex: *mut pthread_mutex_t, attr: *mut pthread_mutexattr_t, kind: c_int) -> io::Result<()> {
    // SAFETY: `init` initialised the attributes.
    check(unsafe { libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) })?;
    // SAFETY: as above.
    check(unsafe { libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST) })?;
    // SAFETY: as above.
    check(unsafe { libc::pthread_mutexattr_settype(attr, kind) })?;
    // SAFETY: the callers give a place of the right size and alignment that nobody uses yet.
    check(unsafe { libc::pthread_mutex_init(mutex, attr) })
}

fn check(answer: c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(answer)) }
}

/// The thread that owns `mutex`.
///
/// # Safety
///
/// As [`lock_in_slices`].
#[inline]
pub(crate) unsafe fn owner(mutex: *mut pthread_mutex_t) -> Option<u32> {
    // SAFETY: the caller's promise.
    let word = unsafe { word(mutex) };
    Some(word.load(Ordering::Relaxed) & TID_MASK).filter(|tid| *tid != 0)
}

/// # Safety
///
/// As [`lock_in_slices`].
#[inline]
pub(super) unsafe fn word<'a>(mutex: *mut pthread_mutex_t) -> &'a AtomicU32 {
    // SAFETY: inside of the mutex, which is larger.
    let word = unsafe { mutex.byte_add(WORD) }.cast::<AtomicU32>();
    // SAFETY: aligned to 4, and it stays mapped, the caller promises; pthread and the kernel access it atomically, too.
    unsafe { &*word }
}

/// Whether `thread` is the calling one.
pub(crate) fn is_this_thread(thread: u32) -> bool {
    this_thread() == thread
}

thread_local! {
    /// In which process, and what the thread's id was.
    static KNOWN: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// The calling thread's id: asked of the system once, and again in a forked child, where it is another.
#[inline]
pub(crate) fn this_thread() -> u32 {
    let process = Identity::current_packed();
    match KNOWN.get() {
        (known, thread) if known == process => thread,
        _ => ask_for_this_thread(process),
    }
}

#[cold]
fn ask_for_this_thread(process: u64) -> u32 {
    let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    KNOWN.set((process, thread));
    thread
}

/// Whether this process has a thread of that id. True also when the system does not say.
pub(crate) fn thread_exists(thread: u32) -> bool {
    let (Ok(process), Ok(thread)) = (i32::try_from(std::process::id()), i32::try_from(thread)) else {
        return true;
    };
    // SAFETY: takes plain numbers; signal 0 is none, the call only looks.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// # Safety
///
/// As [`lock_in_slices`].
#[inline]
pub(crate) unsafe fn try_lock(mutex: *mut pthread_mutex_t) -> Result<Acquired, RawLockError> {
    // SAFETY: the caller's promise.
    let tried = acquired(unsafe { libc::pthread_mutex_trylock(mutex) });
    if tried == Err(RawLockError::NotRecoverable) {
        // SAFETY: as above.
        unsafe { leave_lost(mutex) };
    }
    tried
}

/// After the C library has said that the mutex is lost: glibc's `trylock` then leaves the thread's id in the word, and who comes next
/// would wait for it instead of being told.
///
/// # Safety
///
/// As [`lock_in_slices`].
#[cold]
unsafe fn leave_lost(mutex: *mut pthread_mutex_t) {
    // SAFETY: the caller's promise.
    let word = unsafe { word(mutex) };
    if word.load(Ordering::Relaxed) & TID_MASK == this_thread() && give(word) {
        mp_core::park::wake(word, 1);
    }
}

/// # Safety
///
/// As [`lock_in_slices`].
#[inline]
pub(crate) unsafe fn mark_consistent(mutex: *mut pthread_mutex_t) {
    // SAFETY: the caller's promise; in any other state pthread refuses with EINVAL and changes nothing.
    let answer = unsafe { libc::pthread_mutex_consistent(mutex) };
    debug_assert!(answer == 0 || answer == libc::EINVAL, "pthread_mutex_consistent: {answer}");
}

/// Whether the calling thread owned it, and gave it back.
///
/// # Safety
///
/// As [`lock_in_slices`].
#[inline]
pub(crate) unsafe fn unlock(mutex: *mut pthread_mutex_t) -> bool {
    // SAFETY: the caller's promise; pthread refuses with EPERM when this thread is not the owner.
    let answer = unsafe { libc::pthread_mutex_unlock(mutex) };
    debug_assert!(answer == 0 || answer == libc::EPERM, "pthread_mutex_unlock: {answer}");
    answer == 0
}

#[inline]
fn acquired(answer: c_int) -> Result<Acquired, RawLockError> {
    match answer {
        0 => Ok(Acquired::Clean),
        libc::EOWNERDEAD => Ok(Acquired::OwnerDied),
        libc::EBUSY | libc::ETIMEDOUT => Err(RawLockError::TimedOut),
        libc::EDEADLK => Err(RawLockError::AlreadyHeld),
        libc::ENOTRECOVERABLE => Err(RawLockError::NotRecoverable),
        other => Err(RawLockError::Os(other)),
    }
}

/// Writes what the kernel writes when an owner dies, if the owner is no thread: then it is none that the kernel will come to, nor one that
/// could still give it back. An id that was given to another thread meanwhile counts as the owner's. Whether it was so.
#[cold]
pub(super) fn orphan_if_gone(word: &AtomicU32) -> bool {
    let now = word.load(Ordering::Relaxed);
    let owner = now & TID_MASK;
    if owner == 0 {
        return false;
    }
    // SAFETY: signal 0 is none, it asks only whether there is such a thread.
    let found = unsafe { libc::syscall(libc::SYS_tkill, owner, 0) } == 0;
    if found || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH) {
        return false;
    }
    let orphaned = now & WAITERS | OWNER_DIED;
    let is_orphan = word.compare_exchange(now, orphaned, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if is_orphan {
        mp_core::park::wake(word, 1);
    }
    is_orphan
}

/// Locks, sleeping a slice at a time (invariant 2); after each, and at the end, `look` is shown the word, and says whether it has changed it.
///
/// # Safety
///
/// `mutex` must point to an initialised mutex that stays mapped.
pub(crate) unsafe fn lock_in_slices(
    mutex: *mut pthread_mutex_t,
    deadline: Deadline,
    look: impl Fn(&AtomicU32) -> bool,
) -> Result<Acquired, RawLockError> {
    loop {
        if deadline.passed() {
            // SAFETY: the caller's promise.
            if !look(unsafe { word(mutex) }) {
                return Err(RawLockError::TimedOut);
            }
            // SAFETY: as above.
            return unsafe { try_lock(mutex) };
        }
        // SAFETY: as above.
        match acquired(unsafe { lock_for(mutex, deadline.slice(SLICE)) }) {
            // SAFETY: as above.
            Err(RawLockError::TimedOut) => _ = look(unsafe { word(mutex) }),
            done => return done,
        }
    }
}

/// Locks, waiting at most `slice` on the monotonic clock.
#[cfg(target_env = "gnu")]
unsafe fn lock_for(mutex: *mut pthread_mutex_t, slice: Duration) -> c_int {
    unsafe extern "C" {
        // Since glibc 2.30; not in the libc crate.
        fn pthread_mutex_clocklock(
            mutex: *mut pthread_mutex_t,
            clock: libc::clockid_t,
            until: *const libc::timespec,
        ) -> c_int;
    }
    let until = after(rustix::time::ClockId::Monotonic, slice);
    // SAFETY: the caller promises a mutex; `until` is a normalised time.
    unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &raw const until) }
}

/// Locks, waiting about `slice`: this C library has the wall clock only. The caller measures on the monotonic one, so
/// a step of the clock shifts one slice, not the deadline.
#[cfg(not(target_env = "gnu"))]
unsafe fn lock_for(mutex: *mut pthread_mutex_t, slice: Duration) -> c_int {
    let until = after(rustix::time::ClockId::Realtime, slice);
    // SAFETY: the caller promises a mutex; `until` is a normalised time.
    unsafe { libc::pthread_mutex_timedlock(mutex, &raw const until) }
}

/// The time `slice` from now, with its nanoseconds below a second.
fn after(clock: rustix::time::ClockId, slice: Duration) -> libc::timespec {
    let now = rustix::time::clock_gettime(clock);
    let nanos = now.tv_nsec + i64::from(slice.subsec_nanos());
    let seconds = now.tv_sec + i64::try_from(slice.as_secs()).unwrap_or(i64::MAX >> 1);
    libc::timespec { tv_sec: seconds + nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 }
}
