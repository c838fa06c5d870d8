//! The only door to the OS in this crate that is not a safe call of `rustix`.
#![expect(
    unsafe_code,
    reason = "a page that a fork wipes, barriers, clocks and cache lines, signals to oneself, and the step between fork and exec"
)]

use crate::Identity;
use crate::step::Action;
use rustix::event::{PollFd, PollFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
#[cfg(not(target_arch = "x86_64"))]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::{io, ptr};

/// Whether `fd` is readable or hung up right now.
pub(crate) fn readable<F: AsFd>(fd: &F) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
pub(crate) fn poll_readable(fds: &[&OwnedFd], slice: Option<std::time::Duration>) -> io::Result<bool> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    crate::park::sleep_on_fds(&fds, slice)
}

/// Makes the number of `place` another descriptor of what `file` is; what it was is closed.
pub(crate) fn replace(file: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        // SAFETY: both are open, and the number stays open all the time: whoever owns it closes it later as before.
        let answer = unsafe { libc::dup3(file.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
        match io::Error::last_os_error() {
            _ if answer >= 0 => return Ok(()),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}

/// Ends or stops this process, here and now.
pub(crate) fn signal_self(action: Action) {
    let signal = match action {
        Action::Kill => libc::SIGKILL,
        Action::Stop => libc::SIGSTOP,
    };
    // To this thread: it is stopped before it goes on, while one sent to the process may stop another thread first.
    // SAFETY: sends a signal that cannot be handled; no handler runs.
    let answer = unsafe { libc::raise(signal) };
    debug_assert_eq!(answer, 0, "raise");
}

/// What this process is, remembered on a page that the kernel wipes in a forked child, so that the child computes anew.
struct Remembered {
    pid: AtomicU64,
    start: AtomicU64,
    packed: AtomicU64,
}

/// Null before anybody has asked. No `OnceLock`: a child that is forked while another thread asks first would wait for that
/// thread for ever.
static PAGE: AtomicPtr<Remembered> = AtomicPtr::new(ptr::null_mut());
/// Instead of a page where there is none to be had.
const NO_PAGE: *mut Remembered = ptr::without_provenance_mut(1);

/// The page, once there is one.
#[inline(always)]
fn page() -> Option<&'static Remembered> {
    // Acquire pairs with the Release in `make_page`.
    let page = PAGE.load(Ordering::Acquire);
    if page.addr() <= NO_PAGE.addr() {
        return None;
    }
    // SAFETY: `make_page` stored it: never unmapped, and accessed only through the atomics.
    Some(unsafe { &*page })
}

/// Makes the page; of several threads that do, one makes the one that stays.
#[cold]
fn make_page() -> Option<&'static Remembered> {
    let made = wiped_page().map_or(NO_PAGE, |page| ptr::from_ref(page).cast_mut());
    let _ = PAGE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
    page()
}

/// The packed identity of this process if it is remembered, else zero.
#[inline(always)]
pub(crate) fn own_packed() -> u64 {
    // Relaxed: the word is the whole answer.
    page().map_or(0, |page| page.packed.load(Ordering::Relaxed))
}

#[inline]
pub(crate) fn own_identity(compute: impl FnOnce() -> Identity) -> Identity {
    let Some(page) = page().or_else(make_page) else { return compute() };
    // Acquire pairs with the Release below: who sees the pid sees the start time. Two threads may both compute; they
    // store the same.
    if let Ok(pid) = u32::try_from(page.pid.load(Ordering::Acquire))
        && pid != 0
    {
        return Identity { pid, start: page.start.load(Ordering::Relaxed) };
    }
    let identity = compute();
    page.start.store(identity.start, Ordering::Relaxed);
    page.packed.store(identity.pack(), Ordering::Relaxed);
    page.pid.store(identity.pid.into(), Ordering::Release);
    identity
}

fn wiped_page() -> Option<&'static Remembered> {
    let length = rustix::param::page_size();
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe {
        mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }
    .ok()?;
    // SAFETY: the range is the mapping made above; wiping it in forked children leaves valid zeroes.
    unsafe { madvise(page, length, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: page-aligned, zeroed, never unmapped, and accessed only through the atomics.
    Some(unsafe { &*page.cast::<Remembered>() })
}

/// `membarrier(2)`, which neither rustix nor std offers.
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes plain numbers and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

pub(crate) fn register_barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
}

pub(crate) fn barrier_everywhere() {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED);
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn will_write(word: &AtomicU32) {
    // SAFETY: a hint that reads and writes nothing and never faults; processors that lack it take it for a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{0}]", in(reg) word, options(nostack, preserves_flags));
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn will_write(_: &AtomicU32) {}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it only reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn ticks() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let nanos = START.get_or_init(std::time::Instant::now).elapsed().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Lets the child that `command` starts inherit `fd` under the same number; it is closed here with the command.
pub(crate) fn inherit(command: &mut Command, fd: OwnedFd) {
    use std::os::unix::process::CommandExt;
    let keep_open = move || -> io::Result<()> {
        // SAFETY: the closure owns `fd`, so it is open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec only `fcntl` is called, which is async-signal-safe; nothing is allocated.
    unsafe { command.pre_exec(keep_open) };
}

/// Takes over a descriptor that this process inherited under `number`, if it is the socket with that `inode`.
pub(crate) fn take_inherited_socket(number: i32, inode: u64) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let not_ours =
        || io::Error::new(io::ErrorKind::NotFound, "it was taken before, or belongs to another process");
    // SAFETY: only looked at, by fstat, which answers EBADF for a number that is not open.
    let seen = unsafe { BorrowedFd::borrow_raw(number) };
    let stat = rustix::fs::fstat(seen).map_err(|_| not_ours())?;
    let is_socket = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket;
    if !is_socket || stat.st_ino != inode {
        return Err(not_ours());
    }
    rustix::io::fcntl_setfd(seen, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is the very socket that the parent left for this process, and nobody else takes it: the inode was
    // compared, and the caller holds the lock that makes taking it happen once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
