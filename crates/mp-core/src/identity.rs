//! Which process is this, and does it still live.
//!
//! A pid alone is reused; with the start time beside it it is not. Alive is: `pidfd_open` finds the pid, its start time
//! is the one recorded, and the pidfd is not readable. Neither `kill(pid, 0)` nor the state letter in `/proc` would do: a
//! process that nobody has reaped, and one whose first thread has ended, fool both.

use crate::{news, sys};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// A process, told apart from every other that has lived or will live since this boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The process id, in the namespace of this process.
    pub pid: u32,
    /// When it was started, in clock ticks since boot; zero where `/proc` cannot be read.
    pub start: u64,
}

impl Identity {
    /// This process. Cheap, and right also in a forked child.
    #[must_use]
    #[inline]
    pub fn current() -> Identity {
        sys::own_identity(|| {
            let pid = std::process::id();
            Identity { pid, start: start_time(pid).unwrap_or(0) }
        })
    }

    /// [`pack`](Identity::pack) of [`current`](Identity::current), for hot paths: a few loads.
    #[inline(always)]
    #[must_use]
    pub fn current_packed() -> u64 {
        match sys::own_packed() {
            0 => Identity::current().pack(),
            packed => packed,
        }
    }

    /// The process that has `pid` now, if any.
    #[must_use]
    pub fn of(pid: u32) -> Option<Identity> {
        start_time(pid).map(|start| Identity { pid, start })
    }

    /// A pidfd of this very process.
    ///
    /// # Errors
    ///
    /// `NotFound` once it is gone or its pid belongs to another; else what `pidfd_open` says.
    pub fn open(self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("process {} is gone", self.pid));
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        // The descriptor first: from here on the pid cannot be reused unnoticed, so the comparison holds.
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Err(gone()),
            Err(error) => return Err(error.into()),
        };
        match start_time(self.pid) {
            Some(start) if self.start == 0 || start == self.start => Ok(fd),
            None if self.start == 0 => Ok(fd),
            _ => Err(gone()),
        }
    }

    /// Whether it still lives. Can change from true to false at any time, never back.
    ///
    /// A process that has ended but was not yet waited for is dead. When the answer cannot be had (no descriptors left,
    /// a kernel that refuses), it counts as alive: a living owner is never robbed.
    #[must_use]
    pub fn is_alive(self) -> bool {
        if self == Identity::current() {
            return true;
        }
        let alive = match self.open() {
            Ok(fd) => !sys::readable(&fd),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !alive {
            news::of_a_death();
        }
        alive
    }
}

impl Identity {
    /// This identity as one word that is never zero, for owner words that change by one atomic operation. It holds the
    /// low half of the start time: a pid would have to be reused after exactly 497 days to fool it.
    #[must_use]
    #[inline]
    pub const fn pack(self) -> u64 {
        ((self.pid as u64) << 32) | (self.start & 0xffff_ffff)
    }

    /// Whether the process whose identity was [`pack`](Identity::pack)ed into `word` still lives; zero is nobody.
    #[must_use]
    pub fn packed_is_alive(word: u64) -> bool {
        let [pid, start] = [word >> 32, word & 0xffff_ffff];
        if word == Identity::current().pack() {
            return true;
        }
        let Ok(pid) = u32::try_from(pid) else { return false };
        match Identity::of(pid) {
            Some(found) if found.start & 0xffff_ffff == start => found.is_alive(),
            Some(_) => false,
            // Nothing to be read: gone, or a `/proc` that shows nothing; the pidfd decides.
            None => pid != 0 && Identity { pid, start: 0 }.is_alive(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (started at tick {})", self.pid, self.start)
    }
}

/// The inode of this process's pid namespace: pids written in shared memory mean something only inside it.
#[must_use]
pub fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    // Zero: not asked yet, or no answer. Whoever asks at once gets the same; nobody waits, so a forked child need not either.
    static NAMESPACE: AtomicU64 = AtomicU64::new(0);
    let mut namespace = NAMESPACE.load(Ordering::Relaxed);
    if namespace == 0 {
        namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino());
        NAMESPACE.store(namespace, Ordering::Relaxed);
    }
    namespace
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold anything, so counting starts behind its last bracket.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_is_itself() {
        let me = Identity::current();
        assert_eq!(me.pid, std::process::id());
        assert_eq!(Identity::of(me.pid), Some(me));
        assert_eq!(Identity::current_packed(), me.pack());
        assert!(me.is_alive());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::current();
        assert!(!Identity { start: me.start + 1, ..me }.is_alive());
    }

    #[test]
    fn an_ended_process_is_dead_even_before_it_is_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let fd = identity.open().unwrap();
        sys::poll_readable(&[&fd], None).unwrap();
        assert!(!identity.is_alive());
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }

    #[test]
    fn a_packed_identity_lives_as_long_as_its_process() {
        assert!(!Identity::packed_is_alive(0));
        let me = Identity::current();
        assert!(Identity::packed_is_alive(me.pack()));
        assert!(!Identity::packed_is_alive(Identity { start: me.start + 1, ..me }.pack()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let word = Identity::of(child.id()).unwrap().pack();
        child.wait().unwrap();
        assert!(!Identity::packed_is_alive(word));
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9";
        assert_eq!(parse_start_time(stat), Some(777));
    }
}
