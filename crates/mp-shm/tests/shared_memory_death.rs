//! Killed, forked and ended processes beside named memory: what the crate `shared_memory` gets wrong by itself.

#![expect(unsafe_code, reason = "forking, and closing a standard stream, as a daemon does")]

mod common;

use common::{exists, name, only_reaper};
use mp_shm::{CreateError, OpenError, SharedMemory, reap};
use mp_test::{Role, command, guarded, hear, say, steps_or_say};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// In a role: the name that the test has told.
fn told() -> String {
    hear().expect("a name")
}

fn start(test: &str, role: &str, name: &str) -> Role {
    let mut child = Role::start(command(test, role));
    child.tell(name);
    child
}

/// In a role: creates what was told and waits for its death.
fn create_and_wait() {
    let memory = SharedMemory::create(&told(), 100).expect("create");
    memory.at::<u8>(0).set(7);
    say("made");
    let _ = hear();
}

#[test]
fn what_a_killed_creator_leaves_is_whole_and_can_be_reaped() {
    const ME: &str = "what_a_killed_creator_leaves_is_whole_and_can_be_reaped";
    if mp_test::role().is_some() {
        return create_and_wait();
    }
    guarded(|| {
        let _only = only_reaper();
        let name = name("killed");
        let mut creator = start(ME, "creator", &name);
        creator.expect("made");
        assert!(!reap().unwrap().contains(&name), "its creator lives");
        creator.kill();
        let user = SharedMemory::open(&name).unwrap();
        assert_eq!((user.len(), user.at::<u8>(0).get()), (100, 7));
        assert!(!reap().unwrap().contains(&name), "somebody uses it");
        assert!(matches!(SharedMemory::create(&name, 1), Err(CreateError::Exists(_))));
        drop(user);
        assert!(exists(&name));
        assert!(reap().unwrap().contains(&name));
        assert!(!exists(&name));
    });
}

#[test]
fn the_name_of_a_killed_creator_can_be_created_again() {
    const ME: &str = "the_name_of_a_killed_creator_can_be_created_again";
    if mp_test::role().is_some() {
        return create_and_wait();
    }
    guarded(|| {
        let _only = only_reaper();
        let name = name("again");
        let mut creator = start(ME, "creator", &name);
        creator.expect("made");
        creator.kill();
        let new = SharedMemory::create(&name, 50).unwrap();
        assert_eq!(new.to_vec(), [0; 50]);
    });
}

/// By `exit`, with the segment where nobody drops it.
#[test]
fn a_creator_that_exits_without_dropping_leaves_no_name() {
    const ME: &str = "a_creator_that_exits_without_dropping_leaves_no_name";
    if mp_test::role().is_some() {
        std::mem::forget(SharedMemory::create(&told(), 100).unwrap());
        let kept = Box::leak(Box::new(SharedMemory::create(&told(), 100).unwrap()));
        say("made");
        let _ = hear();
        kept.at::<u8>(0).set(1);
        #[expect(clippy::disallowed_methods, reason = "that it drops nothing is the point")]
        std::process::exit(3);
    }
    guarded(|| {
        let (one, two) = (name("forgotten"), name("leaked"));
        let mut creator = start(ME, "creator", &one);
        creator.tell(&two);
        creator.expect("made");
        assert!(exists(&one) && exists(&two));
        creator.tell("exit");
        assert_eq!(creator.wait().code(), Some(3));
        assert!(!exists(&two), "a leaked segment");
        // A forgotten one is still reachable through the list of what was created.
        assert!(!exists(&one), "a forgotten segment");
    });
}

/// Runs `child` in a forked process and waits until it has ended.
fn in_fork(child: impl FnOnce()) {
    #[expect(clippy::disallowed_methods, reason = "what a forked child does is the point")]
    // SAFETY: the child only runs `child` and ends; these tests use nothing there that another thread may hold.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        child();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
}

#[test]
fn a_forked_child_that_drops_or_exits_leaves_the_name() {
    guarded(|| {
        let memory = SharedMemory::create(&name("forked"), 10).unwrap();
        let mut slot = Some(memory.clone());
        in_fork(|| {
            // All there is in the child.
            let all = (slot.take(), &memory);
            drop(all.0);
            // SAFETY: this process has a copy of its own, and never touches `memory` again.
            drop(unsafe { std::ptr::read(all.1) });
        });
        assert!(exists(memory.name()));
        // SAFETY: ends the child with all that is to be done at an exit.
        in_fork(|| unsafe { libc::exit(0) });
        assert!(exists(memory.name()));
        drop(slot);
        assert_eq!(SharedMemory::open(memory.name()).unwrap().len(), 10);
    });
}

#[test]
fn a_process_without_standard_streams_leaks_neither_name_nor_descriptor() {
    const ME: &str = "a_process_without_standard_streams_leaks_neither_name_nor_descriptor";
    if mp_test::role().is_some() {
        let name = told();
        // SAFETY: nobody reads from it any more.
        drop(unsafe { OwnedFd::from_raw_fd(0) });
        let before = mp_test::Census::take();
        let memory = SharedMemory::create(&name, 10).unwrap();
        let opened = SharedMemory::open(&name).unwrap();
        let others = (mp_shm::Value::new(1).unwrap(), mp_shm::Frozen::from_slice(&[1]).unwrap());
        assert!(exists(&name));
        // Nor does memory sit where some library reads or prints.
        assert!(!std::path::Path::new("/proc/self/fd/0").exists());
        drop((memory, opened, others));
        assert!(!exists(&name));
        assert_eq!(mp_test::Census::take().fd_count(), before.fd_count());
        before.assert_nothing_left();
        say("clean");
        return;
    }
    guarded(|| {
        let mut daemon = start(ME, "daemon", &name("daemon"));
        daemon.expect("clean");
        assert!(daemon.wait().success());
    });
}

/// In a role, with a 4 MiB `/dev/shm`: more than that is an error, and touching all of what was granted is no SIGBUS.
#[test]
fn a_small_file_system_is_an_error_not_a_signal() {
    const ME: &str = "a_small_file_system_is_an_error_not_a_signal";
    if mp_test::role().is_some() {
        let error = SharedMemory::create("big", 5 << 20).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert!(!exists("big"));
        let half = SharedMemory::create("half", 3 << 20).unwrap();
        half.copy_in(0, &vec![1; 3 << 20]);
        assert!(SharedMemory::create("more", 2 << 20).is_err());
        std::fs::File::create_new("/dev/shm/sparse").unwrap().set_len(3 << 20).unwrap();
        let error = SharedMemory::open("sparse").unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        return;
    }
    guarded(|| {
        let small = "mount -t tmpfs -o size=4m tmpfs /dev/shm";
        let shell = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
            command
        };
        let quiet = shell(small).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !quiet.is_ok_and(|status| status.success()) {
            eprintln!("mp-shm: {ME} cannot run: no user namespace with a /dev/shm of its own");
            return;
        }
        let role = command(ME, "small");
        let mut wrapped = shell(&format!("{small} && exec \"$@\""));
        wrapped.arg(role.get_program()).args(role.get_args());
        wrapped.envs(role.get_envs().filter_map(|(key, value)| Some((key, value?))));
        assert!(Role::start(wrapped).wait().success());
    });
}

/// Kills at "shm.create:1..=2": there is no name yet, and no memory stays.
#[test]
fn a_creator_killed_before_the_name_leaves_nothing() {
    const ME: &str = "a_creator_killed_before_the_name_leaves_nothing";
    if mp_test::role().is_some() {
        return create_and_wait();
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        let protocol = ["shm.create:1", "shm.create:2"];
        for step in protocol {
            let name = name("early");
            let mut role = command(ME, "creator");
            role.env("MP_STEP", step);
            let mut creator = Role::start(role);
            creator.tell(&name);
            assert_eq!(creator.word(), None, "killed at {step}");
            creator.wait();
            assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound(_))));
            assert_eq!(SharedMemory::create(&name, 5).unwrap().len(), 5);
        }
    });
}

/// Kills where the name stands for a whole segment.
#[test]
fn a_creator_killed_behind_the_name_leaves_a_whole_one() {
    const ME: &str = "a_creator_killed_behind_the_name_leaves_a_whole_one";
    if mp_test::role().is_some() {
        return create_and_wait();
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        let _only = only_reaper();
        let protocol = ["shm.create:3", "shm.create:4"];
        for step in protocol {
            let name = name("late");
            let mut role = command(ME, "creator");
            role.env("MP_STEP", step);
            let mut creator = Role::start(role);
            creator.tell(&name);
            assert_eq!(creator.word(), None, "killed at {step}");
            creator.wait();
            assert_eq!(SharedMemory::open(&name).unwrap().to_vec(), [0; 100]);
            assert!(reap().unwrap().contains(&name));
            assert!(!exists(&name));
        }
    });
}

/// Kills at "shm.open:1..=3": the creator and other users do not notice.
#[test]
fn a_killed_opener_harms_nobody() {
    const ME: &str = "a_killed_opener_harms_nobody";
    if mp_test::role().is_some() {
        let _memory = SharedMemory::open(&told());
        say("opened");
        return;
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        let memory = SharedMemory::create(&name("opener"), 10).unwrap();
        for step in ["shm.open:1", "shm.open:2", "shm.open:3"] {
            let mut role = command(ME, "opener");
            role.env("MP_STEP", step);
            let mut opener = Role::start(role);
            opener.tell(memory.name());
            assert_eq!(opener.word(), None, "killed at {step}");
            opener.wait();
            assert_eq!(SharedMemory::open(memory.name()).unwrap().len(), 10);
        }
    });
}

/// What a reaper holds between its lock and the removal, held by somebody who stands still there.
#[test]
fn nobody_waits_for_a_reaper() {
    const ME: &str = "nobody_waits_for_a_reaper";
    if mp_test::role().is_some() {
        let file = std::fs::File::open(format!("/dev/shm/{}", told())).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        say("holding");
        let _ = hear();
        return;
    }
    guarded(|| {
        let _only = only_reaper();
        let name = name("held");
        let memory = SharedMemory::create(&name, 10).unwrap();
        memory.persist().unwrap();
        drop(memory);
        let mut reaper = start(ME, "reaper", &name);
        reaper.expect("holding");
        assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound(_))));
        reaper.kill();
        assert!(SharedMemory::open(&name).unwrap().unlink().unwrap());
    });
}

/// Kills at "shm.reap:1..=2": what it held is free, what it removed is gone.
#[test]
fn a_killed_reaper_holds_nobody_up() {
    const ME: &str = "a_killed_reaper_holds_nobody_up";
    match mp_test::role().as_deref() {
        Some("creator") => return create_and_wait(),
        Some(_) => {
            let _ = reap();
            return say("reaped");
        }
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        let _only = only_reaper();
        let name = name("reaper");
        let mut creator = start(ME, "creator", &name);
        creator.expect("made");
        creator.kill();
        let reaper_killed_at = |step: &str| {
            let mut role = command(ME, "reaper");
            role.env("MP_STEP", step);
            let mut reaper = Role::start(role);
            assert_eq!(reaper.word(), None, "killed at {step}");
            reaper.wait();
        };
        reaper_killed_at("shm.reap:1");
        assert_eq!(SharedMemory::open(&name).unwrap().at::<u8>(0).get(), 7);
        // It may come to a leftover of somebody else first; each time one is gone.
        while exists(&name) {
            reaper_killed_at("shm.reap:2");
        }
    });
}

/// Kills at "shm.freeze:1..=5": memory without a name needs nobody to clean up, so nothing is left to see.
#[test]
fn a_killed_freezer_leaves_nothing() {
    const ME: &str = "a_killed_freezer_leaves_nothing";
    if mp_test::role().is_some() {
        let copied = mp_shm::Frozen::from_slice(&[1_u8; 100]).unwrap();
        let built = mp_shm::Frozen::build(100, |new: &mut [u8]| new.fill(1)).unwrap();
        assert_eq!(*copied, *built);
        return say("frozen");
    }
    if !steps_or_say(mp_core::step::enabled(), ME) {
        return;
    }
    guarded(|| {
        for step in ["shm.freeze:1", "shm.freeze:2", "shm.freeze:3", "shm.freeze:4", "shm.freeze:5"] {
            let mut role = command(ME, "freezer");
            role.env("MP_STEP", step);
            let mut freezer = Role::start(role);
            assert_eq!(freezer.word(), None, "killed at {step}");
            freezer.wait();
        }
    });
}

/// A foreign program keeps no lock; what it has mapped is in use all the same.
#[test]
fn what_only_python_uses_is_not_reaped() {
    const ME: &str = "what_only_python_uses_is_not_reaped";
    if mp_test::role().is_some() {
        return create_and_wait();
    }
    guarded(|| {
        use std::io::BufRead;
        let _only = only_reaper();
        let name = name("python-only");
        let mut creator = start(ME, "creator", &name);
        creator.expect("made");
        let program = format!(
            "from multiprocessing.shared_memory import SharedMemory\n\
             m = SharedMemory('{name}')\nprint(m.buf[0], flush=True)\ninput()\n"
        );
        let python = Command::new("python3")
            .args(["-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut python) = python else {
            eprintln!("mp-shm: {ME} cannot run: there is no python3");
            assert!(creator.wait().success());
            return;
        };
        let mut line = String::new();
        std::io::BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "7\n");
        creator.kill();
        assert!(!reap().unwrap().contains(&name));
        assert!(matches!(SharedMemory::create(&name, 1), Err(CreateError::Exists(_))));
        assert!(exists(&name));
        drop(python.stdin.take());
        python.wait().unwrap();
        // Python before 3.13 removes it by itself.
        reap().unwrap();
        mp_test::until("nobody uses it", || reap().unwrap().contains(&name) || !exists(&name));
    });
}
