//! A copy of this process that is its parent's child: how a fork server starts children for the program.
//!
//! `clone3` with `CLONE_PARENT` makes the copy a sibling, so that the program itself waits for it and its exit status stays
//! exact whatever becomes of the fork server. A raw clone passes glibc's own bookkeeping by: the copy's thread would keep the
//! id of the fork server's in its locks, and the kernel would not know its list of robust locks, so a lock that it holds
//! when it dies would be held for ever. Hence:
//!
//! - `CLONE_CHILD_SETTID` and `CLONE_CHILD_CLEARTID` on the address where glibc keeps the thread's id (`PR_GET_TID_ADDRESS`);
//! - `set_robust_list` again in the copy, with the head that `get_robust_list` names before.
//!
//! `CLONE_PARENT_SETTID` writes the copy's pid into a word that the program shares, before the copy runs and before the
//! call can be cut short by a signal: whoever dies at whatever moment, the program knows whether there is a child, and which.

#![expect(unsafe_code, reason = "clone3 and the calls that mend what it passes by")]

use super::process::is_single_threaded;
use std::io;
use std::ptr;
use std::sync::atomic::AtomicU32;

/// Why no copy was made.
#[derive(Debug)]
pub(crate) enum CloneError {
    /// There are other threads: the copy would have their locks without them.
    Threads,
    /// The kernel lacks what it takes.
    Unsupported,
    Io(io::Error),
}

/// In which of the two processes the call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloned {
    Here,
    Copy,
}

/// What glibc keeps of the first thread, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cloner {
    tid_address: u64,
    robust_head: usize,
    robust_length: usize,
}

/// `struct clone_args` in its first version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 64);

const FLAGS: u64 =
    (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID)
        as u64;

impl Cloner {
    /// Asks the kernel about this thread, which must be the one that clones later.
    pub(crate) fn of_this_thread() -> Result<Cloner, CloneError> {
        let mut tid_address: u64 = 0;
        // SAFETY: the command writes one pointer to the given place, which is as large.
        let answer = unsafe { libc::prctl(PR_GET_TID_ADDRESS, ptr::from_mut(&mut tid_address), 0, 0, 0) };
        if answer != 0 || tid_address == 0 {
            return Err(CloneError::Unsupported);
        }
        let (mut robust_head, mut robust_length) = (0_usize, 0_usize);
        // SAFETY: zero is this thread; the kernel writes a pointer and a length to the two places.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_get_robust_list,
                0,
                ptr::from_mut(&mut robust_head),
                ptr::from_mut(&mut robust_length),
            )
        };
        if answer != 0 {
            return Err(CloneError::Unsupported);
        }
        Ok(Cloner { tid_address, robust_head, robust_length })
    }

    /// Makes the copy; `born` receives its pid before it runs.
    pub(crate) fn clone_sibling(&self, born: &AtomicU32) -> Result<Cloned, CloneError> {
        // Beside threads a copy could do next to nothing.
        if !is_single_threaded() {
            return Err(CloneError::Threads);
        }
        let args = CloneArgs {
            flags: FLAGS,
            child_tid: self.tid_address,
            parent_tid: born.as_ptr().expose_provenance() as u64,
            ..CloneArgs::default()
        };
        // SAFETY: without CLONE_VM and a stack it is a fork: the copy has its own memory and goes on here. There is one
        // thread, so nothing in that memory is half changed. The addresses are that of this thread's id, where glibc wants
        // the copy's, and of a live word.
        let answer = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_ref(&args), size_of::<CloneArgs>()) };
        match answer {
            0 => {
                // SAFETY: the head that glibc itself registered for this thread, whose memory the copy has.
                let _ =
                    unsafe { libc::syscall(libc::SYS_set_robust_list, self.robust_head, self.robust_length) };
                Ok(Cloned::Copy)
            }
            1.. => Ok(Cloned::Here),
            _ => Err(match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)) => {
                    CloneError::Unsupported
                }
                error => CloneError::Io(error),
            }),
        }
    }
}

/// Not in the `libc` crate for every target; the same number on every Linux.
const PR_GET_TID_ADDRESS: libc::c_int = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_where_this_threads_id_and_locks_are() {
        let cloner = Cloner::of_this_thread().unwrap();
        assert_ne!(cloner.tid_address, 0);
        assert_ne!(cloner.robust_head, 0);
    }

    #[test]
    fn no_copy_is_made_beside_threads() {
        let (stay, gate) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || gate.recv());
        let word = AtomicU32::new(0);
        let cloner = Cloner::of_this_thread().unwrap();
        assert!(matches!(cloner.clone_sibling(&word), Err(CloneError::Threads)));
        assert_eq!(word.into_inner(), 0);
        drop(stay);
        let _ = thread.join();
    }
}
