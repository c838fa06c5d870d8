//! Signals that end a process because of a fault: where it was is written into words that outlive it.
//!
//! | state word | meaning | whoever reads it |
//! | --- | --- | --- |
//! | 0 | no fault | nothing to tell |
//! | the signal | a thread looks at its stack | what is there so far holds, and is cut short: the look itself died, or took too long |
//! | the signal and `DONE` | all is written | the whole |
//!
//! Rules of the handler:
//! 1. It takes no lock and no memory, and calls nothing that might: words and buffers stand ready since [`watch`]. The unwinder
//!    (`_Unwind_Backtrace`) finds its tables without a lock where the C library has `_dl_find_object` (glibc 2.35); elsewhere
//!    it may wait for the loader's lock, which the thread that crashed may hold.
//! 2. So it is bounded: a timer of the kernel sends SIGKILL if the process lives on after [`MOST`]. Every signal is blocked
//!    meanwhile, so a fault in the handler itself ends the process at once.
//! 3. It changes no fate: it puts the disposition back that it found, and the fault happens again (or, if somebody sent the signal,
//!    is sent again) to whoever is meant to have it: the standard library's handler for overflowing stacks, the program's own, the
//!    kernel's default.
//! 4. It is for this process alone: a copy that a plain `fork` made goes straight to 3.

#![expect(unsafe_code, reason = "handlers of signals")]

use crate::crash::{FRAMES, Fault, Log};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::{io, ptr};

/// What the kernel, `abort` and traps of the compiler send.
const SIGNALS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// How long the handler may take, in seconds.
const MOST: libc::time_t = 1;

/// The stack on which the handler runs in the thread that called [`watch`], whose own may be full.
const STACK: usize = 64 << 10;

struct Watch {
    pid: libc::pid_t,
    log: Log,
    timer: libc::timer_t,
    before: [libc::sigaction; SIGNALS.len()],
}

// SAFETY: a timer's id is a number to the kernel, and dispositions are plain data that is only read.
unsafe impl Send for Watch {}
// SAFETY: as above.
unsafe impl Sync for Watch {}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// The thread that looks at its stack, by its kernel id; zero while there was no fault.
static BUSY: AtomicI32 = AtomicI32::new(0);

/// Room for the one thread that is `BUSY`.
struct Scratch(UnsafeCell<[usize; FRAMES]>, UnsafeCell<[u8; 4096]>);
// SAFETY: used only by the thread that has changed `BUSY` from zero, which happens once.
unsafe impl Sync for Scratch {}
static SCRATCH: Scratch = Scratch(UnsafeCell::new([0; FRAMES]), UnsafeCell::new([0; 4096]));

/// From now on a fault of this process is written to `log`. A second call does nothing.
pub(crate) fn watch(log: Log) -> io::Result<()> {
    if WATCH.get().is_some() {
        return Ok(());
    }
    let timer = timer()?;
    let before = SIGNALS.map(disposition);
    give_stack()?;
    // The first walk looks up what later ones find: not in a handler.
    // SAFETY: no other thread of this process walks by this crate now; if one did, the system's unwinder would not mind.
    unsafe { backtrace::trace_unsynchronized(|_| false) };
    // SAFETY: `getpid` has no preconditions.
    let pid = unsafe { libc::getpid() };
    if WATCH.set(Watch { pid, log, timer, before }).is_err() {
        return Ok(());
    }
    for (signal, before) in SIGNALS.iter().zip(before) {
        if before.sa_sigaction != libc::SIG_IGN {
            set_handler(*signal);
        }
    }
    Ok(())
}

/// A timer that ends this process, not started.
fn timer() -> io::Result<libc::timer_t> {
    let mut event = MaybeUninit::<libc::sigevent>::zeroed();
    // SAFETY: zeroes are valid for it.
    let event = unsafe { event.assume_init_mut() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer = MaybeUninit::<libc::timer_t>::zeroed();
    // SAFETY: reads the event, and writes to a place for a timer's id.
    if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, event, timer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the call.
    Ok(unsafe { timer.assume_init() })
}

fn disposition(signal: libc::c_int) -> libc::sigaction {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only asks, and writes to a place for the answer.
    unsafe { libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) };
    // SAFETY: zeroes, which are the default disposition, or what the call has written.
    unsafe { found.assume_init() }
}

fn set_handler(signal: libc::c_int) {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroes are valid for it: no flags, an empty mask.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the mask is the action's own.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler has the signature that the flags promise, and keeps to the rules above.
    unsafe { libc::sigaction(signal, action, ptr::null_mut()) };
}

/// A stack for handlers of this thread, unless it has one that is large enough.
fn give_stack() -> io::Result<()> {
    let mut known = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: only asks, and writes to a place for the answer.
    unsafe { libc::sigaltstack(ptr::null(), known.as_mut_ptr()) };
    // SAFETY: zeroes, or what the call has written.
    let known = unsafe { known.assume_init() };
    if known.ss_flags & libc::SS_DISABLE == 0 && known.ss_size >= STACK / 2 {
        return Ok(());
    }
    let guard = rustix::param::page_size();
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory where the kernel likes it.
    let memory = unsafe { libc::mmap(ptr::null_mut(), guard + STACK, prot, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the first page of the memory just made, which nobody uses.
    unsafe { libc::mprotect(memory, guard, libc::PROT_NONE) };
    let stack = libc::stack_t { ss_sp: memory.wrapping_byte_add(guard), ss_flags: 0, ss_size: STACK };
    // SAFETY: memory of that size, which stays for as long as the process lives.
    if unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(watch) = WATCH.get() else { return };
    // SAFETY: the kernel passes a valid one.
    let sent = unsafe { (*info).si_code } <= 0;
    // A handler that was set later has the signal and calls the one before it, as is good custom. What was sent is its own affair then.
    let chained = disposition(signal).sa_sigaction != on_fault as *const () as usize;
    if chained && sent && signal != libc::SIGABRT {
        return;
    }
    // SAFETY: `getpid` has no preconditions.
    let pid = unsafe { libc::getpid() };
    // SAFETY: nor has `gettid`.
    let thread = unsafe { libc::gettid() };
    if pid == watch.pid {
        match BUSY.compare_exchange(0, thread, AcqRel, Acquire) {
            Ok(_) => look(watch, signal, info, context),
            Err(busy) if busy == thread => {}
            // Its end is this thread's as well; not before it has finished looking.
            Err(_) => await_other(watch),
        }
    }
    if chained && sent {
        return;
    }
    let place = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
    // SAFETY: what stood there before; a handler among it is still in the same program, and is called as it was.
    unsafe { libc::sigaction(signal, &raw const watch.before[place], ptr::null_mut()) };
    if sent {
        // It was sent, and does not come by itself again. It is blocked until the handler has returned.
        // SAFETY: a signal to this thread.
        unsafe { libc::raise(signal) };
    }
}

fn await_other(watch: &Watch) {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..100 {
        if watch.log.is_done() {
            return;
        }
        // SAFETY: reads the time, and writes no rest.
        unsafe { libc::nanosleep(&raw const moment, ptr::null_mut()) };
    }
}

fn look(watch: &Watch, signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let (zero, most) =
        (libc::timespec { tv_sec: 0, tv_nsec: 0 }, libc::timespec { tv_sec: MOST, tv_nsec: 0 });
    let bound = libc::itimerspec { it_interval: zero, it_value: most };
    // SAFETY: a timer of this process, and a time that it reads.
    unsafe { libc::timer_settime(watch.timer, 0, &raw const bound, ptr::null_mut()) };
    let (pc, sp) = registers(context);
    // SAFETY: the kernel passes a valid one.
    let info = unsafe { &*info };
    // SAFETY: there for faults, and any number for what was sent.
    let (code, address) = (info.si_code, unsafe { info.si_addr() }.addr());
    let mut name = [0_u8; 16];
    // SAFETY: writes at most 16 bytes, with a zero at their end.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    watch.log.begin(&Fault { signal, address: (code > 0).then_some(address), sp, thread: name });
    // SAFETY: this thread alone is `BUSY`, and comes here once.
    let frames = unsafe { &mut *SCRATCH.0.get() };
    let memory = [libc::SIGSEGV, libc::SIGBUS].contains(&signal) && code > 0;
    let count = if memory && address == pc { jump(pc, sp, context, frames) } else { walk(pc, frames) };
    watch.log.frames(&frames[..count]);
    // SAFETY: as above.
    let buffer = unsafe { &mut *SCRATCH.1.get() };
    name_images(watch, &frames[..count], buffer);
    watch.log.done();
    let never = libc::itimerspec { it_interval: zero, it_value: zero };
    // A handler of the program's own may mend the fault.
    // SAFETY: as at the start.
    unsafe { libc::timer_settime(watch.timer, 0, &raw const never, ptr::null_mut()) };
}

/// The addresses of the calls on the stack, the one that failed first; of returns the byte before, which is in the call.
fn walk(pc: usize, frames: &mut [usize; FRAMES]) -> usize {
    let (mut count, mut found) = (0, pc == 0);
    let each = |frame: &backtrace::Frame| {
        let at = frame.ip().addr();
        if found {
            frames[count] = at.saturating_sub(1);
            count += 1;
        } else if at == pc {
            // Before it are the handler's own, and the kernel's frame.
            (frames[0], count, found) = (pc, 1, true);
        }
        count < FRAMES && at != 0
    };
    // SAFETY: the one walk at this time in this process by this crate; another one by other means would not mind.
    unsafe { backtrace::trace_unsynchronized(each) };
    if count == 0 {
        frames[0] = pc;
        count = 1;
    }
    count
}

/// A jump to where no code is: the unwinder would read there, and has nothing that leads on; but who jumped is known.
fn jump(pc: usize, sp: usize, context: *mut libc::c_void, frames: &mut [usize; FRAMES]) -> usize {
    frames[0] = pc;
    let Some(caller) = caller(sp, context) else { return 1 };
    frames[1] = caller.saturating_sub(1);
    2
}

#[cfg(target_arch = "x86_64")]
fn registers(context: *mut libc::c_void) -> (usize, usize) {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel passes a valid one.
    let registers = unsafe { &(*context).uc_mcontext.gregs };
    let register = |number: libc::c_int| {
        let word = usize::try_from(number).ok().and_then(|number| registers.get(number));
        word.and_then(|word| usize::try_from(word.cast_unsigned()).ok()).unwrap_or(0)
    };
    (register(libc::REG_RIP), register(libc::REG_RSP))
}

/// The return address that a call has just left on the stack.
#[cfg(target_arch = "x86_64")]
fn caller(sp: usize, _: *mut libc::c_void) -> Option<usize> {
    let word = sp as *const usize;
    // SAFETY: the stack pointer of the thread that was interrupted. Where it points to nothing, the fault ends the process, which is
    // what happens next anyway.
    word.is_aligned().then(|| unsafe { word.read_volatile() })
}

#[cfg(target_arch = "aarch64")]
fn registers(context: *mut libc::c_void) -> (usize, usize) {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel passes a valid one.
    let machine = unsafe { &(*context).uc_mcontext };
    (usize::try_from(machine.pc).unwrap_or(0), usize::try_from(machine.sp).unwrap_or(0))
}

/// What the link register holds after a call.
#[cfg(target_arch = "aarch64")]
fn caller(_: usize, context: *mut libc::c_void) -> Option<usize> {
    let context: *mut libc::ucontext_t = context.cast();
    // SAFETY: the kernel passes a valid one.
    let machine = unsafe { &(*context).uc_mcontext };
    usize::try_from(machine.regs[30]).ok()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn registers(_: *mut libc::c_void) -> (usize, usize) {
    (0, 0)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn caller(_: usize, _: *mut libc::c_void) -> Option<usize> {
    None
}

/// Says for each of `frames` in which image it lies, as the kernel lists them.
fn name_images(watch: &Watch, frames: &[usize], buffer: &mut [u8]) {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a path that ends with a zero.
    let file = unsafe { libc::open(c"/proc/self/maps".as_ptr(), flags) };
    if file < 0 {
        return;
    }
    // SAFETY: just opened, and nobody else's.
    let file = unsafe { OwnedFd::from_raw_fd(file) };
    let mut images = watch.log.images(frames);
    while let Ok(length @ 1..) = rustix::io::read(&file, &mut *buffer) {
        buffer[..length].iter().for_each(|byte| images.take(*byte));
    }
}
