//! Signals that interrupt whatever a thread waits in.

#![expect(
    unsafe_code,
    reason = "a signal handler after which nothing is restarted, and signals to one thread"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};
use std::time::Duration;

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    SEEN.fetch_add(1, Relaxed);
}

/// From here on SIGUSR1 interrupts the system calls of this process: it is handled, and nothing is restarted after it, as `signal` of
/// the C library would have it.
///
/// # Panics
///
/// When the system refuses.
pub fn interruptible() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeroes are a valid value: no flags, no signals blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = count as *const () as libc::sighandler_t;
        // SAFETY: the handler touches nothing but an atomic.
        let answer = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        assert_eq!(answer, 0, "sigaction");
    });
}

/// How often a signal has interrupted this process since it is [`interruptible`].
#[must_use]
pub fn interruptions() -> u64 {
    SEEN.load(Relaxed)
}

/// While it lives, signals rain on the thread that made it: several thousand a second.
#[derive(Debug)]
pub struct Hail {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    before: u64,
}

impl Hail {
    /// Begins.
    #[must_use]
    pub fn here() -> Hail {
        interruptible();
        // SAFETY: takes nothing, answers a number.
        let target = unsafe { libc::gettid() };
        let over = Arc::new(AtomicBool::new(false));
        let before = interruptions();
        let rain = {
            let over = Arc::clone(&over);
            move || {
                while !over.load(Relaxed) {
                    let (process, signal) = (std::process::id(), libc::SIGUSR1);
                    // SAFETY: sends a signal that is handled; to a thread that has ended it goes nowhere.
                    unsafe { libc::syscall(libc::SYS_tgkill, process, target, signal) };
                    thread::sleep(Duration::from_micros(50));
                }
            }
        };
        Hail { over, thread: Some(thread::spawn(rain)), before }
    }

    /// How many have hit so far, this thread or another one beneath a hail.
    #[must_use]
    pub fn hits(&self) -> u64 {
        interruptions() - self.before
    }
}

impl Drop for Hail {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_of_the_kernel_is_interrupted() {
        let hail = Hail::here();
        let never = rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 3600, tv_nsec: 0 }));
        assert_eq!(never, Err(rustix::io::Errno::INTR));
        // One that would be restarted after a handler of the usual kind.
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Err(rustix::io::Errno::INTR));
        assert!(hail.hits() > 1);
    }
}
