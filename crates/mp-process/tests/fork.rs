//! A fork of this process: closures with captures, what the child has, and what it lets go of.

#![expect(unsafe_code, reason = "the promise that a fork asks for")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, runs, stand};
use mp_process::{
    Builder, JoinError, Process, StartMethod, active_children, current_process, parent_process,
};
use mp_test::{Role, command, guarded, guarded_with_orphans, hear, role, say, steps_or_say, until};
use serde::{Serialize, de::DeserializeOwned};

mp_process::enable_test_support!();

fn fork<R: Serialize + DeserializeOwned + 'static>(builder: &Builder, f: impl FnOnce() -> R) -> Process<R> {
    // SAFETY: the harness's other threads wait while a test runs, and the closures need nothing of theirs.
    unsafe { builder.fork(f) }.unwrap()
}

fn by_fork() -> Builder {
    // SAFETY: as in `fork`.
    Process::builder().start_method(unsafe { StartMethod::fork() })
}

#[test]
fn smoke() {
    guarded(|| {
        let mut captured = vec![1_u64; 1 << 16];
        let process = fork(&Process::builder(), || {
            captured[0] = 5;
            captured.iter().sum::<u64>()
        });
        assert_eq!(process.join().unwrap(), (1 << 16) + 4);
        assert_eq!(captured[0], 1, "a copy");
    });
}

#[test]
fn every_end_is_told_right() {
    guarded(|| {
        let text = "captured".to_owned();
        let error = fork(&Process::builder(), || -> () { panic!("{text}") }).join().unwrap_err();
        assert!(matches!(error, JoinError::Panicked(panic) if panic.message == "captured"));
        #[expect(clippy::disallowed_methods, reason = "a child that exits")]
        let error = fork(&Process::builder(), || -> () { std::process::exit(7) }).join().unwrap_err();
        assert!(matches!(error, JoinError::Exit(7, ..)), "{error}");
        let error = fork(&Process::builder().core_dump(false), || -> () { std::process::abort() });
        assert!(matches!(error.join(), Err(JoinError::Signal { number: libc::SIGABRT, .. })));
        assert!(active_children().is_empty());
    });
}

#[test]
fn a_function_with_arguments_is_forked_as_well() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = by_fork().name("copy").spawn(stand, (inner,)).unwrap();
        assert_eq!(process.name(), "copy");
        drop(outer);
        let pid = process.pid();
        assert_eq!(process.join().unwrap(), pid);
    });
}

/// Names and parents of a fork's fork.
fn family() -> (String, String, u32) {
    fork(&Process::builder(), || {
        let parent = parent_process().unwrap();
        (current_process().name().to_owned(), parent.name().to_owned(), parent.pid())
    })
    .join()
    .unwrap()
}

#[test]
fn a_forks_fork_has_its_own_name_and_parent() {
    guarded(|| {
        let process = fork(&Process::builder().name("middle"), || (std::process::id(), family()));
        let (middle, (name, parent_name, parent)) = process.join().unwrap();
        assert!(name.ends_with(":1"), "{name}");
        assert_eq!((parent_name.as_str(), parent), ("middle", middle));
    });
}

#[test]
fn a_fork_has_none_of_this_processs_children() {
    guarded(|| {
        let (inner, outer) = gate();
        let sibling = Process::spawn(stand, (inner,)).unwrap();
        assert_eq!(fork(&Process::builder(), || active_children().len()).join().unwrap(), 0);
        drop(outer);
        sibling.join().unwrap();
    });
}

#[test]
fn a_fork_that_lives_on_keeps_no_daemon_of_its_parent_alive() {
    let test = "a_fork_that_lives_on_keeps_no_daemon_of_its_parent_alive";
    if role().is_some() {
        let daemon = Process::builder().daemon(true);
        let (inner, _outer) = gate();
        let first = daemon.spawn(stand, (inner,)).unwrap();
        let (inner, _other) = gate();
        let second = by_fork().daemon(true).spawn(stand, (inner,)).unwrap();
        let pids = [first.pid(), second.pid()];
        let fork = fork(&Process::builder().stdin(mp_process::Stdio::Inherit), || {
            say("forked");
            let _ = hear();
            until("the daemons have ended with their parent", || !pids.iter().any(|&pid| runs(pid)));
            say("both ended");
        });
        let _ = fork.wait();
        return;
    }
    guarded_with_orphans(|| {
        let mut parent = Role::start(command(test, "parent"));
        parent.expect("forked");
        parent.kill();
        parent.expect("both ended");
    });
}

#[test]
fn a_parent_killed_at_any_step_of_a_fork_leaves_no_process() {
    let test = "a_parent_killed_at_any_step_of_a_fork_leaves_no_process";
    match role().as_deref() {
        Some("daemon") => return drop(by_fork().daemon(true).spawn(stand, (gate().0,))),
        Some(_) => return drop(fork(&Process::builder(), || 1)),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded_with_orphans(|| {
        let coverage = ("process.fork", 1..=1);
        let steps = coverage.1.map(|step| format!("{}:{step}", coverage.0));
        for step in steps.chain(["process.spawn:3".to_owned(), "process.spawn:4".to_owned()]) {
            for kind in ["daemon", "child"] {
                let mut parent = command(test, kind);
                parent.env("MP_STEP", &step);
                let mut parent = Role::start(parent);
                while parent.word().is_some() {}
                assert!(!parent.wait().success(), "{kind} {step}: it was killed");
            }
        }
    });
}
