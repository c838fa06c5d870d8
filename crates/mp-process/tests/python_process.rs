//! What CPython's tests of processes and start methods assert, and no other test here does. The names are CPython's.

#![expect(unsafe_code, reason = "a hook for the end of a process, and closing standard streams")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{
    ExitStatus, JoinTimeoutError, Passed, Process, StartMethod, Stdio, active_children, current_process,
    parent_process, set_start_method, start_method,
};
use mp_test::{guarded, guarded_with_orphans};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::time::Duration;

mp_process::enable_test_support!();

mod process {
    use super::*;

    #[test]
    fn test_current() {
        guarded(|| {
            let current = current_process();
            assert!(current.is_alive() && !current.is_daemon());
            assert_eq!((current.pid(), current.name()), (std::process::id(), "MainProcess"));
        });
    }

    fn is_daemon() -> (bool, bool) {
        (
            current_process().is_daemon(),
            Process::spawn(|| current_process().is_daemon(), ()).unwrap().join().unwrap(),
        )
    }

    #[test]
    fn test_daemon_argument() {
        guarded(|| {
            let found = |builder: mp_process::Builder| {
                let process = builder.spawn(is_daemon, ()).unwrap();
                (process.is_daemon(), process.join().unwrap())
            };
            // A daemon's children are none unless they are asked to be: they end before it does, or are joined.
            assert_eq!(found(Process::builder()), (false, (false, false)));
            assert_eq!(found(Process::builder().daemon(true)), (true, (true, false)));
            assert_eq!(found(Process::builder().daemon(false)), (false, (false, false)));
        });
    }

    /// Looks at its parent while it lives, waits for its end, and looks again.
    fn watch_parent(mut seen: Passed<PipeWriter>) {
        let parent = parent_process().unwrap();
        seen.0.write_all(&[u8::from(parent.is_alive())]).unwrap();
        parent.wait().unwrap();
        seen.0.write_all(&[u8::from(parent.is_alive())]).unwrap();
    }

    fn leave_a_watcher(seen: Passed<PipeWriter>, gate: Passed<PipeReader>) {
        Process::spawn(watch_parent, (seen,)).unwrap().detach();
        stand(gate);
    }

    #[test]
    fn test_parent_process() {
        guarded_with_orphans(|| {
            let (mut seen, writer) = pipe().unwrap();
            let (inner, _outer) = gate();
            let parent = Process::spawn(leave_a_watcher, (Passed(writer), inner)).unwrap();
            let mut byte = [9];
            seen.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [1], "alive");
            parent.terminate().unwrap();
            parent.join().unwrap_err();
            seen.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [0], "ended, and the wait for it returned");
        });
    }

    #[test]
    fn test_terminate() {
        guarded(|| {
            for method in [StartMethod::Spawn, StartMethod::ForkServer] {
                let (inner, _outer) = gate();
                let builder = Process::builder().start_method(method).daemon(true);
                let process = builder.spawn(stand, (inner,)).unwrap();
                assert!(active_children().iter().any(|child| child.pid() == process.pid()));
                let running = process.join_timeout(Duration::ZERO).unwrap_err();
                let JoinTimeoutError::Running(process) = running else { panic!("{running}") };
                assert!(process.is_alive());
                process.terminate().unwrap();
                assert_eq!(process.wait().unwrap().python_code(), Some(-15));
                assert!(active_children().iter().all(|child| child.pid() != process.pid()));
                process.join().unwrap_err();
            }
        });
    }

    fn recurse(path: Vec<u32>, mut seen: Passed<PipeWriter>) {
        seen.0.write_all(format!("{path:?}").as_bytes()).unwrap();
        if path.len() < 2 {
            for n in 0..2 {
                let path = [path.clone(), vec![n]].concat();
                let seen = Passed(seen.0.try_clone().unwrap());
                Process::spawn(recurse, (path, seen)).unwrap().join().unwrap();
            }
        }
    }

    #[test]
    fn test_recursion() {
        guarded(|| {
            let (mut seen, writer) = pipe().unwrap();
            Process::spawn(recurse, (Vec::new(), Passed(writer))).unwrap().join().unwrap();
            let mut text = String::new();
            seen.read_to_string(&mut text).unwrap();
            assert_eq!(text, "[][0][0, 0][0, 1][1][1, 0][1, 1]");
        });
    }

    fn nothing() {}

    #[test]
    fn test_many_processes() {
        guarded(|| {
            for (method, count) in [(StartMethod::Spawn, 5), (StartMethod::ForkServer, 100)] {
                let builder = Process::builder().start_method(method);
                let short: Vec<_> = (0..count).map(|_| builder.spawn(nothing, ()).unwrap()).collect();
                for process in short {
                    assert_eq!(process.wait().unwrap(), ExitStatus::Code(0));
                    process.join().unwrap();
                }
                let gates: Vec<_> = (0..count).map(|_| gate()).collect();
                let (inner, _outer): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
                let long: Vec<_> =
                    inner.into_iter().map(|inner| builder.spawn(stand, (inner,)).unwrap()).collect();
                long.iter().for_each(|process| process.terminate().unwrap());
                for process in long {
                    assert_eq!(process.wait().unwrap().python_code(), Some(-15));
                }
            }
        });
    }

    /// Leaves threads: one that never ends.
    fn leave_a_thread() -> u32 {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
        7
    }

    #[test]
    fn test_wait_for_threads() {
        guarded(|| {
            // As a Rust program ends when `main` returns: its threads end with it, nobody waits for them.
            assert_eq!(Process::spawn(leave_a_thread, ()).unwrap().join().unwrap(), 7);
        });
    }

    fn close_streams() {
        print!("buffered, and nowhere to go");
        for fd in [1, 2] {
            // SAFETY: nobody in this process owns a standard stream.
            unsafe { libc::close(fd) };
        }
    }

    #[test]
    fn test_error_on_stdio_flush_2() {
        guarded(|| {
            let process = Process::builder().stdout(Stdio::Piped).spawn(close_streams, ()).unwrap();
            assert_eq!(process.wait().unwrap(), ExitStatus::Code(0));
            process.join().unwrap();
        });
    }

    extern "C" fn hook() {
        let _ = std::io::stdout().write_all(b"the hook ran");
    }

    fn register_hook() {
        // SAFETY: a plain function of this program.
        unsafe { libc::atexit(hook) };
    }

    #[test]
    fn test_atexit() {
        guarded(|| {
            for method in [StartMethod::Spawn, StartMethod::ForkServer] {
                let builder = Process::builder().start_method(method).stdout(Stdio::Tail(99));
                let process = builder.spawn(register_hook, ()).unwrap();
                process.wait().unwrap();
                assert_eq!(process.stdout_tail().unwrap(), b"the hook ran", "{method:?}");
                process.join().unwrap();
            }
        });
    }
}

mod start_methods {
    use super::*;

    /// The program's method here and in a child, for each.
    fn set_and_get() -> Vec<(StartMethod, StartMethod)> {
        [StartMethod::ForkServer, StartMethod::Spawn]
            .into_iter()
            .map(|method| {
                set_start_method(method);
                let there = Process::spawn(is_fork_server, ()).unwrap().join().unwrap();
                (start_method(), if there { StartMethod::ForkServer } else { StartMethod::Spawn })
            })
            .collect()
    }

    fn is_fork_server() -> bool {
        start_method() == StartMethod::ForkServer
    }

    #[test]
    fn test_set_get() {
        guarded(|| {
            let differ = || set_and_get().into_iter().filter(|(here, there)| here != there).count();
            assert_eq!(Process::spawn(differ, ()).unwrap().join().unwrap(), 0);
        });
    }

    #[test]
    fn test_spawn_dont_set_context() {
        guarded(|| {
            let before = start_method();
            let builder = Process::builder().start_method(StartMethod::ForkServer);
            builder.spawn(is_fork_server, ()).unwrap().join().unwrap();
            assert_eq!(start_method(), before);
            mp_process::init();
            assert_eq!(start_method(), before, "nor does `init`");
        });
    }

    #[test]
    fn test_get_all_start_methods() {
        // A fork is never the default.
        assert_eq!(StartMethod::default(), StartMethod::Spawn);
    }
}
