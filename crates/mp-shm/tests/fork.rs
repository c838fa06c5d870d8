//! A plain `fork` beside named memory: what the child does, and what becomes of the parent.

#![expect(unsafe_code, reason = "forking")]

mod common;

use common::{exists, name};
use mp_shm::SharedMemory;
use mp_test::{Role, command, guarded, guarded_with_orphans, hear, say};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Forks; the child runs `child` and ends.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    #[expect(clippy::disallowed_methods, reason = "what a forked child does is the point")]
    // SAFETY: the C library makes its own locks usable in the child, and ours are what this is about; the child then ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    pid
}

/// Threads make and open segments without a pause while the process is forked: whatever lock one of them held, the child makes
/// and opens its own all the same, and ends in an ordinary way.
#[test]
fn a_child_forked_while_other_threads_make_memory_makes_some_too() {
    const ME: &str = "a_child_forked_while_other_threads_make_memory_makes_some_too";
    const CHILDREN: usize = 30;
    if mp_test::role().is_some() {
        // What steps are armed is asked once, and that is a part of the test.
        mp_core::step::reached("nothing", 0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let done = &done;
                scope.spawn(move || {
                    let name = name(&format!("fork-{thread}"));
                    while !done.load(Relaxed) {
                        let made = SharedMemory::create(&name, 10).expect("create");
                        drop(SharedMemory::open(&name).expect("open"));
                        drop(made);
                    }
                });
            }
            for _ in 0..CHILDREN {
                let child = fork(|| {
                    let own = name("fork-own");
                    let made = SharedMemory::create(&own, 10).expect("create");
                    SharedMemory::open(&own).expect("open").at::<u8>(1).set(1);
                    assert_eq!(made.at::<u8>(1).get(), 1);
                    // Left to the end of the process.
                    std::mem::forget(made);
                    // SAFETY: ends the child with all that is to be done at an exit.
                    unsafe { libc::exit(0) };
                });
                let mut status = 0;
                // SAFETY: our own child, and a place for its status.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
            }
            done.store(true, Relaxed);
        });
        return say("done");
    }
    guarded(|| {
        // Some of what could be held is held at a process's first use only.
        for _ in 0..20 {
            let mut forker = Role::start(command(ME, "forker"));
            forker.expect("done");
            assert!(forker.wait().success());
        }
    });
}

/// The creator ends while its child lives on: at once, and its name goes with it.
#[test]
fn a_child_that_lives_on_keeps_neither_its_parent_nor_the_name() {
    const ME: &str = "a_child_that_lives_on_keeps_neither_its_parent_nor_the_name";
    if mp_test::role().is_some() {
        let memory = SharedMemory::create(&hear().expect("a name"), 10).expect("create");
        let child = fork(|| {
            memory.at::<u8>(0).set(1);
            // SAFETY: sleeps until it is killed.
            unsafe { libc::pause() };
        });
        mp_test::until("the child uses it", || memory.at::<u8>(0).get() == 1);
        say(&child.to_string());
        std::mem::forget(memory);
        return;
    }
    guarded_with_orphans(|| {
        let name = name("survived");
        let mut creator = Role::start(command(ME, "creator"));
        creator.tell(&name);
        let child: i32 = creator.word().expect("a child").parse().expect("its pid");
        assert!(creator.wait().success());
        assert!(!exists(&name));
        let child = rustix::process::Pid::from_raw(child).expect("a pid");
        rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it lives");
    });
}
