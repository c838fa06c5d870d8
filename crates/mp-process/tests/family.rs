//! Parents, children and their children; several threads that start processes, and threads in a child.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{exists, gate, stand};
use mp_process::{Passed, Process, Stdio, active_children, cpu_count, current_process, parent_process};
use mp_test::{Role, command, guarded, guarded_with_orphans, role, say, until};
use std::io::PipeReader;
use std::time::Duration;

mp_process::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn own_name() -> String {
    current_process().name().to_owned()
}

/// The own name, and those of `count` children.
fn names(count: usize) -> (String, Vec<String>) {
    let children = (0..count).map(|_| Process::spawn(own_name, ()).unwrap().join().unwrap()).collect();
    (own_name(), children)
}

#[test]
fn smoke() {
    guarded(|| {
        let (name, children) = Process::spawn(names, (1,)).unwrap().join().unwrap();
        assert!(name.starts_with("Process-"), "{name}");
        assert_eq!(children, [format!("{name}:1")]);
    });
}

#[test]
fn names_count_from_one_in_every_process() {
    if role().is_some() {
        let first = Process::spawn(names, (2,)).unwrap();
        let second = Process::spawn(names, (1,)).unwrap();
        let named = Process::builder().name("own").spawn(names, (1,)).unwrap();
        for process in [first, second, named] {
            let (name, children) = process.join().unwrap();
            say(&format!("{name} {}", children.join(" ")));
        }
        return;
    }
    guarded(|| {
        let mut process = Role::start(command("names_count_from_one_in_every_process", "parent"));
        process.expect("Process-1 Process-1:1 Process-1:2");
        process.expect("Process-2 Process-2:1");
        process.expect("own Process-3:1");
        assert!(process.wait().success());
    });
}

fn parent_as_seen() -> (u32, String, bool) {
    let parent = parent_process().unwrap();
    (parent.pid(), parent.name().to_owned(), parent.is_alive())
}

fn parent_of_child() -> (u32, (u32, String, bool)) {
    (std::process::id(), Process::spawn(parent_as_seen, ()).unwrap().join().unwrap())
}

#[test]
fn a_child_knows_its_parent() {
    guarded(|| {
        let seen = Process::spawn(parent_as_seen, ()).unwrap().join().unwrap();
        assert_eq!(seen, (std::process::id(), "MainProcess".to_owned(), true));
        let process = Process::builder().name("middle").spawn(parent_of_child, ()).unwrap();
        let (middle, seen) = process.join().unwrap();
        assert_eq!(seen, (middle, "middle".to_owned(), true));
        assert!(parent_process().is_none());
    });
}

#[test]
fn active_children_are_those_that_have_not_ended() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::builder().name("active").spawn(stand, (inner,)).unwrap();
        let found = active_children();
        let child = found.iter().find(|child| child.pid() == process.pid()).unwrap();
        assert_eq!((child.name(), child.is_alive(), child.is_daemon()), ("active", true, false));
        drop(outer);
        child.wait().unwrap();
        assert!(!child.is_alive());
        assert!(active_children().iter().all(|child| child.pid() != process.pid()));
        process.join().unwrap();
    });
}

/// The number of processors after this process was bound to one.
fn bound() -> usize {
    let mut all = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..1024).find(|&cpu| all.is_set(cpu)).unwrap();
    all.clear();
    all.set(first);
    rustix::thread::sched_setaffinity(None, &all).unwrap();
    cpu_count()
}

#[test]
fn cpu_count_is_what_this_process_may_use() {
    guarded(|| {
        assert!(cpu_count() >= std::thread::available_parallelism().unwrap().get());
        assert_eq!(Process::spawn(bound, ()).unwrap().join().unwrap(), 1);
    });
}

/// Starts processes from several threads at once.
fn from_threads(threads: u64, each: u64) -> Vec<u64> {
    let mut results: Vec<u64> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Vec<u64> {
                    let numbers = thread * each..(thread + 1) * each;
                    let processes: Vec<_> = numbers.map(|n| Process::spawn(square, (n,)).unwrap()).collect();
                    processes.into_iter().map(|process| process.join().unwrap()).collect()
                })
            })
            .collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    results.sort_unstable();
    results
}

#[test]
fn several_threads_start_processes_at_once() {
    guarded(|| {
        assert_eq!(from_threads(8, 4), (0..32).map(|n| n * n).collect::<Vec<u64>>());
    });
}

#[test]
fn a_child_has_threads_that_start_processes() {
    guarded(|| {
        let squares = Process::spawn(from_threads, (4, 2)).unwrap().join().unwrap();
        assert_eq!(squares, (0..8).map(|n| n * n).collect::<Vec<u64>>());
    });
}

fn in_threads(count: u64) -> u64 {
    let threads: Vec<_> = (0..count).map(|n| std::thread::spawn(move || square(n))).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

#[test]
fn processes_with_threads_run_beside_each_other() {
    guarded(|| {
        let processes: Vec<_> = (0..4).map(|_| Process::spawn(in_threads, (10,)).unwrap()).collect();
        for process in processes {
            assert_eq!(process.join().unwrap(), (0..10).map(|n| n * n).sum::<u64>());
        }
    });
}

#[test]
fn a_handle_is_joined_in_another_thread() {
    guarded(|| {
        let process = std::thread::spawn(|| Process::spawn(square, (7,)).unwrap()).join().unwrap();
        assert_eq!(std::thread::spawn(|| process.join().unwrap()).join().unwrap(), 49);
    });
}

#[test]
fn a_scope_joins_all() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = mp_process::scope(|scope| {
            let process = scope.spawn(stand, (inner,)).unwrap();
            let builder = Process::builder().name("scoped");
            assert_eq!(scope.spawn_with(&builder, own_name, ()).unwrap().join().unwrap(), "scoped");
            drop(outer);
            process
        });
        assert!(process.exit_status().unwrap().success());
        assert_eq!(process.pid(), process.join().unwrap());
    });
}

#[test]
fn a_scope_joins_also_when_its_body_panics() {
    guarded(|| {
        let (inner, outer) = gate();
        let mut pid = 0;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            mp_process::scope(|scope| {
                pid = scope.spawn(stand, (inner,)).unwrap().pid();
                drop(outer);
                panic!("on purpose");
            });
        }));
        assert!(caught.is_err());
        assert!(pid > 0 && !exists(pid), "ended and reaped");
    });
}

/// Waits for a word, looks whether the parent is there for a while, and says so.
fn look_after_parent() {
    let parent = parent_process().unwrap();
    let _ = mp_test::hear();
    let mut looks = 0;
    while parent.is_alive() && looks < 50 {
        std::thread::sleep(Duration::from_millis(1));
        looks += 1;
    }
    say(if parent.is_alive() { "the parent waits" } else { "the parent is gone" });
}

#[test]
fn a_process_waits_at_its_end_for_those_it_dropped() {
    if role().is_some() {
        drop(Process::builder().stdin(Stdio::Inherit).spawn(look_after_parent, ()).unwrap());
        say("leaving");
        return;
    }
    guarded_with_orphans(|| {
        let mut process = Role::start(command("a_process_waits_at_its_end_for_those_it_dropped", "parent"));
        process.expect("leaving");
        process.tell("look");
        process.expect("the parent waits");
        assert!(process.wait().success());
    });
}

#[test]
fn a_process_does_not_wait_at_its_end_for_those_it_detached() {
    if role().is_some() {
        Process::builder().stdin(Stdio::Inherit).spawn(look_after_parent, ()).unwrap().detach();
        say("leaving");
        return;
    }
    guarded_with_orphans(|| {
        let test = "a_process_does_not_wait_at_its_end_for_those_it_detached";
        let mut process = Role::start(command(test, "parent"));
        process.expect("leaving");
        until("the parent has ended", || ended(process.pid()));
        process.tell("look");
        process.expect("the parent is gone");
        assert!(process.wait().success());
    });
}

/// Whether the process has ended; it may not be reaped yet.
fn ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z')
}

/// Leaves a daemon that stands at the gate.
fn with_daemon(gate: Passed<PipeReader>) -> u32 {
    let daemon = Process::builder().daemon(true).spawn(stand, (gate,)).unwrap();
    daemon.pid()
}

#[test]
fn a_daemon_ends_when_its_parent_ends_normally() {
    guarded_with_orphans(|| {
        let (inner, _outer) = gate();
        let pid = Process::spawn(with_daemon, (inner,)).unwrap().join().unwrap();
        // The gate stays shut: only the end of its parent ends it. As an orphan it is reaped by this test's guard.
        until("the daemon has ended", || !exists(pid) || ended(pid));
    });
}

#[test]
fn a_daemon_does_not_end_with_the_thread_that_started_it() {
    guarded(|| {
        let (inner, outer) = gate();
        let start = move || Process::builder().daemon(true).spawn(stand, (inner,)).unwrap();
        let process = std::thread::spawn(start).join().unwrap();
        assert_eq!(process.wait_timeout(Duration::from_millis(100)).unwrap(), None, "it lives on");
        drop(outer);
        let pid = process.pid();
        assert_eq!(process.join().unwrap(), pid);
    });
}
