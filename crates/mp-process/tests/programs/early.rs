//! A program with something before its `init()`, which a child meets as well: `EARLY` says what.

use mp_process::{ExitStatus, Process, SpawnError};
use std::process::{Command, exit};
use std::time::Duration;

fn own_pid() -> u32 {
    std::process::id()
}

fn main() {
    match std::env::var("EARLY").as_deref() {
        Ok("exit") => exit(3),
        Ok("crash") => std::process::abort(),
        Ok("stop") => {
            let own = std::process::id().to_string();
            Command::new("sh").args(["-c", "kill -STOP $0", &own]).status().expect("sh");
        }
        // Without the variable, so that a child which should not be there ends the chain: this test must not become one.
        Ok("never") => match Process::builder().env_remove("EARLY").spawn(own_pid, ()) {
            Err(SpawnError::NotInitialized) => exit(42),
            _ => exit(43),
        },
        Ok("close") => {
            // The first thing in the child is to close its standard input, as a service does.
            use std::os::fd::{FromRawFd, OwnedFd};
            // SAFETY: nobody in this program owns the standard input.
            drop(unsafe { OwnedFd::from_raw_fd(0) });
            loop {
                std::thread::park();
            }
        }
        Ok("program") => {
            // Inherits the mark and the socket, and is this very program.
            let own = std::env::current_exe().expect("a path");
            let status = Command::new(own).arg("ordinary").env_remove("EARLY").status().expect("itself");
            assert_eq!(status.code(), Some(5));
        }
        Ok("runtime") => {
            // What `#[tokio::main]` makes of `main`.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
            runtime.expect("a runtime").block_on(async { mp_process::init() });
        }
        Ok("threads") => {
            let (keep, gate) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || gate.recv());
            std::mem::forget(keep);
        }
        _ => {}
    }
    mp_process::init();
    let what = std::env::args().nth(1).expect("what to do early");
    if what == "ordinary" {
        exit(5);
    }
    let patience = Duration::from_millis(if what == "stop" { 300 } else { 60_000 });
    let spawned = Process::builder().env("EARLY", &what).handshake_timeout(patience).spawn(own_pid, ());
    match (what.as_str(), spawned) {
        ("exit", Err(SpawnError::Died(ExitStatus::Code(3)))) => {}
        ("crash", Err(SpawnError::Died(ExitStatus::Signal { number: 6, .. }))) => {}
        ("stop", Err(SpawnError::TimedOut)) => {}
        ("never", Err(SpawnError::Died(ExitStatus::Code(42)))) => {}
        ("close", Err(SpawnError::Refused(why))) => assert!(why.contains("init()"), "{why}"),
        ("threads" | "runtime", Err(SpawnError::Refused(why))) => {
            assert!(why.contains("first line of `main`") && why.contains("async runtime"), "{why}");
        }
        ("program", Ok(process)) => {
            let pid = process.pid();
            assert!(process.wait().expect("a status").success());
            assert_eq!(process.join().expect("a result"), pid);
        }
        (_, Err(error)) => panic!("{error:?}: {error}"),
        (_, Ok(_)) => panic!("it started"),
    }
    // Neither running nor a zombie.
    let own = std::process::id().to_string();
    let children =
        Command::new("sh").args(["-c", "ps -o pid= --ppid $0 | grep -vw $$ | wc -l", &own]).output();
    if let Ok(children) = children {
        assert_eq!(String::from_utf8_lossy(&children.stdout).trim(), "0");
    }
}
