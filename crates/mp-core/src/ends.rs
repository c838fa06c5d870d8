//! The lifelines that this process holds, so that it can let go of all of them before it ends.
//!
//! A process that waits at its normal end for a child would wait for ever when that child waits for a message through an end that
//! lies in a static, or that a thread keeps. So the crates that have ends enter their lifelines here, and the one that waits for
//! children shuts them down first, without knowing whose they are: each other side sees what it sees when a holder dies. What was sent
//! before stays, and is received.
//!
//! A lifeline may be one of several copies in several processes, so it is not the socket that is shut down but this process's
//! descriptor that is closed, by putting a dead one in its place: the number stays its owner's, whose drop closes it.

use crate::deadline::SLICE;
use crate::{Deadline, sys};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

struct Lines {
    held: Vec<Weak<OwnedFd>>,
    /// How many there may be before the dropped ones are looked for.
    sweep_at: usize,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { held: Vec::new(), sweep_at: 64 });

/// Enters a lifeline: a descriptor whose last copy's closing is news to somebody else.
///
/// A process that was forked while another thread was in here finds the list taken for ever, by a thread that it does not have. So
/// nobody waits here for longer than a slice; an end that could not be entered is let go when its owner is, as without this list.
pub fn enter(line: &Arc<OwnedFd>) {
    let Some(mut lines) = lines() else { return };
    if lines.held.len() >= lines.sweep_at {
        lines.held.retain(|line| line.strong_count() > 0);
        lines.sweep_at = 2 * lines.held.len().max(32);
    }
    lines.held.push(Arc::downgrade(line));
}

fn lines() -> Option<MutexGuard<'static, Lines>> {
    let deadline = Deadline::after(SLICE);
    loop {
        match LINES.try_lock() {
            Ok(lines) => return Some(lines),
            Err(TryLockError::Poisoned(lines)) => return Some(lines.into_inner()),
            Err(TryLockError::WouldBlock) if deadline.passed() => return None,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}

/// Lets go of every lifeline of this process, for good. Whoever uses one here from now on finds the other side gone.
///
/// # Errors
///
/// What the system says; the lifelines up to there are shut down.
pub fn shut_down() -> io::Result<()> {
    // A forked child may find the lock taken by a thread that it does not have; then it keeps them.
    let held: Vec<Arc<OwnedFd>> = match LINES.try_lock() {
        Ok(mut lines) => lines.held.drain(..).filter_map(|line| line.upgrade()).collect(),
        Err(_) => return Err(io::ErrorKind::WouldBlock.into()),
    };
    if held.is_empty() {
        return Ok(());
    }
    let (dead, other) = UnixStream::pair()?;
    drop(other);
    held.iter().try_for_each(|line| sys::replace(dead.as_fd(), line.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_other_side_sees_the_end_and_what_was_sent_before() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let copy = Arc::new(OwnedFd::from(ours.try_clone().unwrap()));
        enter(&copy);
        io::Write::write_all(&mut &ours, b"before").unwrap();
        for _ in 0..1000 {
            enter(&Arc::new(std::fs::File::open("/dev/null").unwrap().into()));
        }
        assert!(LINES.lock().unwrap().held.len() < 200, "dropped ones are forgotten");
        drop(ours);
        let taken = LINES.lock().unwrap();
        enter(&copy); // as in a forked child whose parent's thread was in there: it comes back
        drop(taken);
        shut_down().unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before");
        assert!(sys::readable(&*copy), "its owner finds the other side gone");
        shut_down().unwrap();
    }
}
