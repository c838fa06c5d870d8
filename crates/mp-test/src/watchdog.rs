//! Ends a test that hangs.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Long enough for a loaded machine: it is there for hangs, not for slowness.
const LIMIT: Duration = Duration::from_secs(120);

/// While it lives, a test may take its time but not hang: past the limit it says which test hung, what its threads wait in,
/// ends the children and aborts.
#[derive(Debug)]
pub struct Watchdog {
    calm: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the clock; `MP_TEST_LIMIT`, in seconds, sets another limit.
    #[must_use]
    pub fn start() -> Watchdog {
        let seconds = std::env::var("MP_TEST_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
        Watchdog::with_limit(seconds.map_or(LIMIT, Duration::from_secs))
    }

    /// Starts the clock with another limit.
    ///
    /// # Panics
    ///
    /// When no thread can be started.
    #[must_use]
    pub fn with_limit(limit: Duration) -> Watchdog {
        let test = std::thread::current().name().unwrap_or("main").to_owned();
        let (calm, alarm) = mpsc::channel::<()>();
        let watch = move || {
            if alarm.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                bark(&test, limit);
            }
        };
        let thread =
            std::thread::Builder::new().name("watchdog".into()).spawn(watch).expect("a watchdog thread");
        Watchdog { calm: Some(calm), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.calm.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bark(test: &str, limit: Duration) {
    eprintln!("mp-test: {test} hangs: not done after {limit:?}");
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        eprintln!("mp-test: thread {} waits in {}", read("comm").trim(), read("syscall").trim());
    }
    for pid in descendants(std::process::id()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        eprintln!("mp-test: ending its process {pid} {}", name.trim());
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    std::process::abort();
}

fn descendants(root: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
