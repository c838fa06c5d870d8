//! The fork server beside threads that stop it, forks that copy it, and a program that is short of everything.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "dispositions of signals, and the promise that a fork asks for")]

mod help;

use help::{runs, served, signal, spares};
use mp_process::{Builder, ForkServer, Process, SpawnError, StartMethod, Stdio};
use mp_test::{Role, command, guarded, guarded_with_orphans, hear, role, say, until};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{ptr, thread};

mp_process::enable_test_support!();

fn double(n: u32) -> u32 {
    n * 2
}

#[test]
fn a_fork_server_that_is_stopped_again_and_again_costs_no_start() {
    served(|builder| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    ForkServer::stop();
                    ForkServer::warm_up(|| ());
                }
            });
            let starts = || (0..20).all(|n| builder.spawn(double, (n,)).unwrap().join().unwrap() == n * 2);
            let starters: Vec<_> = (0..3).map(|_| scope.spawn(starts)).collect();
            let ends: Vec<_> = starters.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(ends.into_iter().all(|end| end.unwrap()));
        });
    });
}

#[test]
fn there_are_never_more_spares_than_were_asked_for() {
    served(|builder| {
        ForkServer::spares(2).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..4 {
                        assert_eq!(builder.spawn(double, (n,)).unwrap().join().unwrap(), n * 2);
                    }
                });
            }
        });
        until("two are left", || spares().len() == 2);
        ForkServer::spares(1).unwrap();
        until("one is left", || spares().len() == 1);
        ForkServer::spares(0).unwrap();
        until("none is left", || spares().is_empty());
    });
}

#[test]
fn a_spare_waits_without_ever_waking_up() {
    served(|_| {
        ForkServer::spares(1).unwrap();
        until("it is forked", || spares().len() == 1);
        let pid = spares()[0];
        until("it sleeps with no end to its patience", || {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
            let mut parts = call.split_ascii_whitespace();
            let is_poll = parts.next() == Some(libc::SYS_ppoll.to_string().as_str());
            is_poll && parts.nth(2) == Some("0x0")
        });
    });
}

#[test]
fn a_fork_that_lives_on_keeps_no_spare_of_its_parent_alive() {
    let test = "a_fork_that_lives_on_keeps_no_spare_of_its_parent_alive";
    if role().is_some() {
        ForkServer::spares(2).unwrap();
        until("they are forked", || spares().len() == 2);
        let ready = spares();
        let builder = Process::builder().stdin(Stdio::Inherit);
        let wait = || {
            say("forked");
            let _ = hear();
            until("the spares have ended with their program", || !ready.iter().any(|&pid| runs(pid)));
            say("both ended");
        };
        // SAFETY: the harness's other threads wait while a test runs, and the closure needs nothing of theirs.
        let fork = unsafe { builder.fork(wait) }.unwrap();
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

extern "C" fn on_interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn interrupts() -> libc::sigaction {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks for the disposition and changes nothing.
    let answer = unsafe { libc::sigaction(libc::SIGINT, ptr::null(), found.as_mut_ptr()) };
    assert_eq!(answer, 0);
    // SAFETY: zeroes are valid for it, and it was written.
    unsafe { found.assume_init() }
}

fn handle_interrupts() {
    let mut wanted = interrupts();
    wanted.sa_sigaction = on_interrupt as *const () as usize;
    wanted.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: a handler with the signature that the flags announce.
    let answer = unsafe { libc::sigaction(libc::SIGINT, &raw const wanted, ptr::null_mut()) };
    assert_eq!(answer, 0);
}

fn own_interrupts() -> (bool, i32) {
    let found = interrupts();
    let wanted = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_RESTART;
    (found.sa_sigaction == on_interrupt as *const () as usize, found.sa_flags & wanted)
}

#[test]
fn a_handler_of_the_warm_up_is_called_in_children_as_it_was_set() {
    served(|builder| {
        ForkServer::warm_up(handle_interrupts);
        let found = builder.spawn(own_interrupts, ()).unwrap().join().unwrap();
        assert_eq!(found, (true, libc::SA_SIGINFO | libc::SA_NODEFER));
    });
}

#[test]
fn what_is_started_after_a_death_runs() {
    served(|_| {
        ForkServer::start().unwrap();
        let first = ForkServer::pid().unwrap();
        signal(first, Signal::KILL);
        until("it is gone", || ForkServer::pid().is_none());
        ForkServer::start().unwrap();
        assert!(ForkServer::pid().is_some_and(|pid| pid != first));
    });
}

static MAKER: AtomicU32 = AtomicU32::new(0);

fn warm_up_with_threads_that_end() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| MAKER.store(std::process::id(), Ordering::Relaxed));
        }
    });
}

#[test]
fn threads_of_the_warm_up_that_have_ended_do_not_matter() {
    served(|builder| {
        for _ in 0..20 {
            ForkServer::warm_up(warm_up_with_threads_that_end);
            let maker = builder.spawn(|| MAKER.load(Ordering::Relaxed), ()).unwrap().join().unwrap();
            assert_eq!(Some(maker), ForkServer::pid());
        }
    });
}

#[test]
fn a_directory_that_is_not_there_costs_no_fork_server() {
    served(|builder| {
        builder.spawn(double, (1,)).unwrap().join().unwrap();
        let pid = ForkServer::pid();
        let nowhere = builder.clone().current_dir("/proc/self/nowhere");
        assert!(matches!(nowhere.spawn(double, (1,)), Err(SpawnError::Io(_))));
        assert_eq!(builder.spawn(double, (2,)).unwrap().join().unwrap(), 4);
        assert_eq!(ForkServer::pid(), pid);
    });
}

fn tell_where() -> String {
    print!("here");
    std::env::current_dir().unwrap().display().to_string()
}

/// Starts a process with room for so many more descriptors.
fn start_with_room_for(room: u64, builder: &Builder) -> bool {
    let lowest = rustix::io::dup(std::io::stdout()).unwrap();
    let lowest = u64::try_from(lowest.as_raw_fd()).unwrap();
    let before = getrlimit(Resource::Nofile);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stdout = rustix::io::dup(std::io::stdout()).unwrap();
    rustix::stdio::dup2_stdout(&writer).unwrap();
    drop(writer);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest + 2 + room), ..before }).unwrap();
    let process = builder.spawn(tell_where, ());
    setrlimit(Resource::Nofile, before).unwrap();
    rustix::stdio::dup2_stdout(&stdout).unwrap();
    let place = process.and_then(|process| process.join().map_err(|_| SpawnError::TimedOut));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    match place {
        Ok(place) => assert_eq!((place.as_str(), text.as_str()), ("/", "here"), "room for {room}"),
        Err(_) => assert_eq!(text, "", "room for {room}: no process, no output"),
    }
    text == "here"
}

#[test]
fn whoever_is_short_of_descriptors_gets_an_error_or_the_whole_process() {
    let test = "whoever_is_short_of_descriptors_gets_an_error_or_the_whole_process";
    if role().is_some() {
        let builder = Process::builder().start_method(StartMethod::ForkServer);
        builder.spawn(double, (1,)).unwrap().join().unwrap();
        std::env::set_current_dir("/").unwrap();
        let started = (0..24).filter(|&room| start_with_room_for(room, &builder)).count();
        until("no process is left", || spares().is_empty());
        say(if (1..24).contains(&started) { "right" } else { "all or none" });
        return;
    }
    guarded(|| {
        let mut process = Role::start(command(test, "program"));
        process.expect("right");
        assert!(process.wait().success());
    });
}
