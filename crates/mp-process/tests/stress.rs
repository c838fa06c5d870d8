//! Crowds and long rows of processes, under each start method.
//!
//! Hunted: a descriptor, a thread, memory or a zombie of this process that each start leaves behind; a table or a poll that does not
//! stand a thousand children; a child that hangs on a sibling's descriptor.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{ForkServer, Passed, Process, StartMethod, Stdio, active_children};
use mp_test::{Census, Watchdog, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

mp_process::enable_test_support!();

const METHODS: [StartMethod; 2] = [StartMethod::Spawn, StartMethod::ForkServer];

/// Runs a long test under a watchdog, with as many descriptors as may be, and fails when it leaves anything behind.
fn guarded_long(test: impl FnOnce()) {
    let watchdog = Watchdog::with_limit(Duration::from_secs(1800));
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let before = Census::take();
    test();
    ForkServer::stop();
    before.assert_nothing_left();
    drop(watchdog);
}

#[test]
#[ignore = "stress"]
fn a_thousand_children_live_at_once() {
    const COUNT: usize = 1000;
    for method in METHODS {
        guarded_long(|| {
            let (inner, outer) = gate();
            let inner = inner.into_inner();
            let builder = Process::builder().start_method(method).stderr(Stdio::Tail(100));
            let start = || builder.spawn(stand, (Passed(inner.try_clone().unwrap()),)).unwrap();
            let mut processes: Vec<_> = (0..COUNT).map(|_| start()).collect();
            assert_eq!(active_children().len(), COUNT, "{method:?}");
            assert!(processes.iter().all(Process::is_alive));
            // A hundred die by force, a hundred lose their handle, the others end by themselves.
            for process in processes.drain(..100) {
                process.kill().unwrap();
                process.join().unwrap_err();
            }
            processes.drain(..100).for_each(drop);
            assert_eq!(active_children().len(), COUNT - 100, "{method:?}");
            drop((inner, outer));
            for process in processes {
                let pid = process.pid();
                assert_eq!(process.join().unwrap(), pid);
            }
            until("all are reaped", || active_children().is_empty());
        });
    }
}

fn square(n: u64) -> u64 {
    n * n
}

/// The resident memory of this process in KiB, what files take not counted.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
#[ignore = "stress"]
fn ten_thousand_started_and_joined_leave_descriptors_threads_and_memory_flat() {
    for method in METHODS {
        guarded_long(|| {
            let builder = Process::builder().start_method(method);
            let round = |count: u64| {
                for n in 0..count {
                    let process = builder.spawn(square, (n,)).unwrap();
                    assert_eq!(process.join().unwrap(), n * n);
                }
            };
            // What is kept for good is there after a few.
            round(500);
            let (before, fds, threads) = (memory(), Census::take().fd_count(), mp_test::threads());
            round(10_000);
            assert_eq!((Census::take().fd_count(), mp_test::threads()), (fds, threads), "{method:?}");
            let after = memory();
            assert!(after <= before + 1024, "{method:?}: {before} KiB, then {after} KiB");
        });
    }
}
