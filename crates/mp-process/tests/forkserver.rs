//! The fork server: what its children have, whose they are, what the warm-up leaves to them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "what a program changes after its fork server has started")]
#![expect(unsafe_code, reason = "changing the environment of a role, beside a thread that waits")]

mod help;

use help::{gate, served, signal, stand};
use mp_process::{ForkServer, JoinError, Process, Resource, SpawnError, StartMethod, Stdio, current_process};
use mp_test::{Role, command, guarded, guarded_with_orphans, hear, role, say, until};
use rustix::process::{Signal, getpgid, setpgid};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

mp_process::enable_test_support!();

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn parent() -> u32 {
    rustix::process::getppid().unwrap().as_raw_nonzero().get().cast_unsigned()
}

#[test]
fn smoke() {
    served(|builder| {
        assert_eq!(ForkServer::pid(), None);
        assert_eq!(builder.spawn(add, (2, 3)).unwrap().join().unwrap(), 5);
        let pid = ForkServer::pid();
        assert_eq!(builder.spawn(add, (20, 3)).unwrap().join().unwrap(), 23);
        assert_eq!(ForkServer::pid(), pid);
    });
}

#[test]
fn children_are_this_processs_own() {
    served(|builder| {
        assert_eq!(builder.spawn(parent, ()).unwrap().join().unwrap(), std::process::id());
    });
}

fn place() -> (String, String, Option<String>) {
    let dir = std::env::current_dir().unwrap().to_string_lossy().into_owned();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find(|line| line.starts_with("Umask")).unwrap().to_owned();
    (dir, mask, std::env::var("MP_LATER").ok())
}

fn limits_and_nice() -> (Option<u64>, i32) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    (limit, rustix::process::getpriority_process(None).unwrap())
}

#[test]
fn children_have_what_this_process_has_now_not_what_it_had() {
    let test = "children_have_what_this_process_has_now_not_what_it_had";
    if role().is_some() {
        let builder = Process::builder().start_method(StartMethod::ForkServer);
        builder.spawn(add, (1, 2)).unwrap().join().unwrap();
        std::env::set_current_dir("/").unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o27));
        // SAFETY: the harness's other thread waits for this one.
        unsafe { std::env::set_var("MP_LATER", "now") };
        let limit = rustix::process::Rlimit { current: Some(123), maximum: Some(456) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        rustix::process::setpriority_process(None, 7).unwrap();
        let found = builder.spawn(place, ()).unwrap().join().unwrap();
        assert_eq!(found, ("/".into(), "Umask:\t0027".into(), Some("now".into())));
        assert_eq!(builder.spawn(limits_and_nice, ()).unwrap().join().unwrap(), (Some(123), 7));
        let asked = builder.clone().limit(Resource::OpenFiles, 77).nice(9).current_dir("/proc").env_clear();
        assert_eq!(asked.spawn(limits_and_nice, ()).unwrap().join().unwrap(), (Some(77), 9));
        assert_eq!(asked.spawn(place, ()).unwrap().join().unwrap().2, None);
        say("right");
        return;
    }
    guarded(|| {
        let mut process = Role::start(command(test, "program"));
        process.expect("right");
        assert!(process.wait().success());
    });
}

fn own_group() -> i32 {
    getpgid(None).unwrap().as_raw_nonzero().get()
}

#[test]
fn a_change_that_cannot_be_handed_on_replaces_the_fork_server() {
    let test = "a_change_that_cannot_be_handed_on_replaces_the_fork_server";
    if role().is_some() {
        ForkServer::spares(2).unwrap();
        let builder = Process::builder().start_method(StartMethod::ForkServer);
        builder.spawn(add, (1, 2)).unwrap().join().unwrap();
        let before = ForkServer::pid();
        setpgid(None, None).unwrap();
        assert_eq!(builder.spawn(own_group, ()).unwrap().join().unwrap(), own_group());
        assert_ne!(ForkServer::pid(), before);
        say("right");
        return;
    }
    guarded(|| {
        let mut process = Role::start(command(test, "program"));
        process.expect("right");
        assert!(process.wait().success());
    });
}

static WARM: OnceLock<u32> = OnceLock::new();
static RUNS: AtomicU32 = AtomicU32::new(0);

fn warm_up() {
    RUNS.fetch_add(1, Ordering::Relaxed);
    WARM.get_or_init(std::process::id);
}

fn warmed() -> (Option<u32>, u32) {
    (WARM.get().copied(), RUNS.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn what_the_warm_up_made_is_in_every_child() {
    served(|builder| {
        ForkServer::warm_up(warm_up);
        for _ in 0..3 {
            let (maker, runs) = builder.spawn(warmed, ()).unwrap().join().unwrap();
            assert_eq!((maker, runs), (ForkServer::pid(), 1));
        }
        assert_eq!(warmed(), (None, 0), "not here");
        RUNS.store(0, Ordering::Relaxed);
    });
}

fn warm_up_with_a_thread() {
    warm_up();
    drop(thread::spawn(|| {
        loop {
            thread::park();
        }
    }));
}

#[test]
fn beside_a_thread_of_the_warm_up_processes_are_spawned_and_warm_up_themselves() {
    served(|builder| {
        ForkServer::warm_up(warm_up_with_a_thread);
        for _ in 0..2 {
            let process = builder.spawn(warmed, ()).unwrap();
            let pid = process.pid();
            assert_eq!(process.join().unwrap(), (Some(pid), 1));
        }
    });
}

fn warm_up_that_panics() {
    panic!("nothing to warm up");
}

#[test]
fn a_warm_up_that_panics_is_an_error_and_no_endless_start() {
    served(|builder| {
        ForkServer::warm_up(warm_up_that_panics);
        let error = builder.spawn(add, (1, 2)).unwrap_err();
        assert!(matches!(error, SpawnError::ForkServer(_)), "{error}");
        assert!(error.to_string().contains("warm-up"), "{error}");
    });
}

fn warm_up_that_writes() {
    print!("made once");
}

fn write() {
    print!("child");
}

#[test]
fn what_the_warm_up_wrote_is_written_once() {
    let test = "what_the_warm_up_wrote_is_written_once";
    if role().is_some() {
        ForkServer::warm_up(warm_up_that_writes);
        let builder = Process::builder().start_method(StartMethod::ForkServer);
        for _ in 0..2 {
            builder.spawn(write, ()).unwrap().join().unwrap();
        }
        return;
    }
    guarded(|| {
        let output = command(test, "program").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((text.matches("made once").count(), text.matches("child").count()), (1, 2), "{text}");
    });
}

#[test]
fn an_interrupt_of_the_terminal_ends_children_but_not_the_fork_server() {
    served(|builder| {
        builder.spawn(add, (1, 2)).unwrap().join().unwrap();
        let pid = ForkServer::pid().unwrap();
        signal(pid, Signal::INT);
        let (inner, _outer) = gate();
        let process = builder.spawn(stand, (inner,)).unwrap();
        assert_eq!(ForkServer::pid(), Some(pid));
        process.interrupt().unwrap();
        assert!(matches!(process.join(), Err(JoinError::Signal { number: libc::SIGINT, .. })));
    });
}

#[test]
fn streams_that_were_replaced_meanwhile_are_the_childs() {
    let test = "streams_that_were_replaced_meanwhile_are_the_childs";
    if role().is_some() {
        let builder = Process::builder().start_method(StartMethod::ForkServer);
        builder.spawn(add, (1, 2)).unwrap().join().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let before = rustix::io::dup(std::io::stdout()).unwrap();
        rustix::stdio::dup2_stdout(&writer).unwrap();
        drop(writer);
        builder.spawn(write, ()).unwrap().join().unwrap();
        rustix::stdio::dup2_stdout(&before).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        say(&text);
        return;
    }
    guarded(|| {
        let mut process = Role::start(command(test, "program"));
        process.expect("child");
        assert!(process.wait().success());
    });
}

#[test]
fn spares_are_used_and_made_again() {
    served(|builder| {
        ForkServer::spares(3).unwrap();
        let pid = ForkServer::pid();
        for n in 0..20 {
            assert_eq!(builder.spawn(add, (n, 3)).unwrap().join().unwrap(), n + 3);
        }
        let kept = builder.clone().stdout(Stdio::Tail(100)).current_dir("/");
        let process = kept.spawn(write, ()).unwrap();
        process.wait().unwrap();
        assert_eq!(process.stdout_tail().unwrap(), b"child");
        assert_eq!(ForkServer::pid(), pid);
    });
}

#[test]
fn many_threads_start_processes_at_once() {
    served(|builder| {
        ForkServer::spares(2).unwrap();
        thread::scope(|scope| {
            for t in 0..8 {
                scope.spawn(move || {
                    for n in 0..10 {
                        assert_eq!(builder.spawn(add, (n, t)).unwrap().join().unwrap(), n + t);
                    }
                });
            }
        });
    });
}

fn names() -> (String, String) {
    let child = Process::spawn(|| current_process().name().to_owned(), ()).unwrap();
    (current_process().name().to_owned(), child.join().unwrap())
}

#[test]
fn children_of_the_fork_server_have_children_and_the_same_default() {
    served(|builder| {
        let (name, child) = builder.clone().name("middle").spawn(names, ()).unwrap().join().unwrap();
        assert_eq!(name, "middle");
        assert!(child.starts_with("Process-") && child.ends_with(":1"), "{child}");
    });
}

fn wait_as_a_daemon() {
    say("waits");
    let _ = hear();
    loop {
        thread::park();
    }
}

#[test]
fn a_thread_that_starts_a_daemon_and_ends_takes_nothing_with_it() {
    let test = "a_thread_that_starts_a_daemon_and_ends_takes_nothing_with_it";
    if role().is_some() {
        let builder = Process::builder().start_method(StartMethod::ForkServer).daemon(true);
        let start = move || builder.spawn(wait_as_a_daemon, ()).unwrap();
        let daemon = thread::spawn(start).join().unwrap();
        // Nor does the end of the fork server.
        signal(ForkServer::pid().unwrap(), Signal::KILL);
        until("the fork server is gone", || ForkServer::pid().is_none());
        say(if daemon.is_alive() { "alive" } else { "dead" });
        let _ = hear();
        std::process::abort();
    }
    guarded_with_orphans(|| {
        let mut parent = Role::start(command(test, "program"));
        // Of two processes: in either order.
        let mut words = [parent.word().unwrap(), parent.word().unwrap()];
        words.sort();
        assert_eq!(words, ["alive", "waits"]);
        // However the parent ends, the daemon ends with it: the output is closed.
        parent.tell("abort");
        assert_eq!(parent.word(), None);
        assert!(!parent.wait().success());
    });
}
