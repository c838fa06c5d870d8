//! Ends in children made by a plain `fork`, which nobody gave them: they have one user all the same.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "forking")]

use mp_pipe::{Connection, RecvError, SendError, TryRecvError, give, pipe, take};
use mp_test::{Role, command, guarded, guarded_with_orphans, hear, role, say, until};
use std::time::Duration;

/// Runs `child` in a forked child of this process; `true` is its success.
fn fork(child: impl FnOnce() -> bool) -> libc::pid_t {
    #[expect(clippy::disallowed_methods, reason = "what a forked child does is the point")]
    // SAFETY: the child runs what it was given, on the one thread that it has, and ends without returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = i32::from(!child());
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    }
    pid
}

fn succeeded(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: `status` is a live place for the answer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// The copy that a forked child has answers `InUse` in every operation, and its end harms nobody.
#[test]
fn a_forked_copy_of_a_living_ones_end_is_in_use() {
    guarded(|| {
        let (ours, mut other) = pipe().unwrap();
        other.send(5).unwrap();
        let mut ours = Some(ours);
        let child = fork(|| {
            let Some(mut copy) = ours.take() else { return false };
            copy.send(1).is_err_and(|error| matches!(error, SendError::InUse(1)))
                && copy.recv::<i32>().is_err_and(|error| matches!(error, RecvError::InUse))
                && copy
                    .try_recv::<i32>()
                    .is_err_and(|error| matches!(error, TryRecvError::Failed(RecvError::InUse)))
                && copy.poll(Duration::ZERO).is_err_and(|error| matches!(error, RecvError::InUse))
        });
        assert!(succeeded(child));
        // It was taken, and dropped, in the child's memory alone.
        let mut ours = ours.unwrap();
        assert_eq!(ours.recv::<i32>().unwrap(), 5);
        ours.send(6).unwrap();
        assert_eq!(other.recv::<i32>().unwrap(), 6);
    });
}

/// Once the one who had it is dead, the copy takes the end over.
#[test]
fn the_end_of_a_dead_one_is_taken_over() {
    const ME: &str = "the_end_of_a_dead_one_is_taken_over";
    if role().is_some() {
        let mut connection: Connection = take("connection").unwrap();
        connection.send("from the first".to_owned()).unwrap();
        fork(|| {
            until("the first one is dead", || {
                !matches!(connection.try_recv::<u8>(), Err(TryRecvError::Failed(RecvError::InUse)))
            });
            connection.send("from its copy".to_owned()).is_ok()
        });
        say("forked");
        let _ = hear();
        return;
    }
    guarded_with_orphans(|| {
        let (mut ours, theirs) = pipe().unwrap();
        let mut child = command(ME, "first");
        give(&mut child, "connection", &theirs).unwrap();
        drop(theirs);
        let mut child = Role::start(child);
        child.expect("forked");
        assert_eq!(ours.recv::<String>().unwrap(), "from the first");
        assert!(ours.try_recv::<String>().is_err_and(|error| error.is_empty()));
        child.kill();
        assert_eq!(ours.recv::<String>().unwrap(), "from its copy");
        assert!(ours.recv::<String>().unwrap_err().is_disconnected());
    });
}
