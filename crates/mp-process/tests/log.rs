//! Records of a child's log come to this process's logger.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use log::{Level, LevelFilter, Log, Metadata, Record};
use mp_process::{Passed, Process, Stdio};
use mp_test::{guarded, until};
use std::io::{PipeReader, Read};
use std::sync::{Mutex, Once};

mp_process::enable_test_support!();

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    level: Level,
    target: String,
    text: String,
    file: String,
    line: u32,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

struct Collect;

impl Log for Collect {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "unwanted"
    }

    fn log(&self, record: &Record<'_>) {
        assert_ne!(record.target(), "panics", "on purpose");
        SEEN.lock().unwrap().push(Seen {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
            file: record.file().unwrap_or_default().to_owned(),
            line: record.line().unwrap_or(0),
        });
    }

    fn flush(&self) {}
}

/// Runs a test alone with a logger that collects.
fn collecting(level: LevelFilter, test: impl FnOnce()) {
    static SET: Once = Once::new();
    guarded(|| {
        SET.call_once(|| log::set_logger(&Collect).unwrap());
        log::set_max_level(level);
        SEEN.lock().unwrap().clear();
        test();
    });
}

fn texts() -> Vec<String> {
    SEEN.lock().unwrap().iter().map(|seen| seen.text.clone()).collect()
}

fn forwarding() -> mp_process::Builder {
    Process::builder().name("logs").forward_log(true)
}

fn log_some() -> u32 {
    log::info!("the first");
    log::error!(target: "special", "the {}nd", 2);
    log::debug!("too detailed");
    log::warn!(target: "unwanted", "not let in");
    line!()
}

#[test]
fn smoke() {
    collecting(LevelFilter::Info, || {
        let line = forwarding().spawn(log_some, ()).unwrap().join().unwrap();
        let seen = SEEN.lock().unwrap().clone();
        assert_eq!(texts(), ["[logs] the first", "[logs] the 2nd"]);
        assert_eq!((seen[0].level, seen[1].level), (Level::Info, Level::Error));
        assert_eq!((seen[0].target.as_str(), seen[1].target.as_str()), ("log", "special"));
        assert!(seen[0].file.ends_with("tests/log.rs"));
        assert_eq!(seen[0].line, line - 4);
    });
}

fn level() -> String {
    log::max_level().to_string()
}

#[test]
fn the_level_is_the_parents() {
    collecting(LevelFilter::Warn, || {
        assert_eq!(forwarding().spawn(level, ()).unwrap().join().unwrap(), "WARN");
        assert_eq!(
            Process::spawn(level, ()).unwrap().join().unwrap(),
            "OFF",
            "unless asked, nothing is logged"
        );
    });
}

fn log_many(count: usize) {
    for n in 0..count {
        log::info!("record {n}");
    }
}

fn is_whole(count: usize) -> bool {
    texts().iter().enumerate().all(|(n, text)| *text == format!("[logs] record {n}"))
        && texts().len() == count
}

#[test]
fn a_burst_is_complete_and_in_order_when_join_returns() {
    collecting(LevelFilter::Info, || {
        forwarding().spawn(log_many, (3_000,)).unwrap().join().unwrap();
        assert!(is_whole(3_000), "{}", texts().len());
    });
}

#[expect(clippy::disallowed_methods, reason = "a child that exits by itself")]
fn log_and_exit(count: usize) {
    log_many(count);
    std::process::exit(3);
}

#[test]
fn an_exit_loses_nothing() {
    collecting(LevelFilter::Info, || {
        forwarding().spawn(log_and_exit, (2_000,)).unwrap().join().unwrap_err();
        assert!(is_whole(2_000), "{}", texts().len());
    });
}

fn log_and_abort() {
    log_many(3);
    std::process::abort();
}

#[test]
fn what_was_sent_before_a_death_arrives() {
    collecting(LevelFilter::Info, || {
        let builder = forwarding().core_dump(false).stderr(Stdio::Null);
        builder.spawn(log_and_abort, ()).unwrap().join().unwrap_err();
        assert!(is_whole(3), "{:?}", texts());
    });
}

/// Logs much more than is kept while nobody reads, then tells how far it came.
fn log_beyond(gate: Passed<PipeReader>) -> usize {
    log_many(100_000);
    gate.into_inner().read_to_end(&mut Vec::new()).unwrap();
    std::process::id() as usize
}

#[test]
fn a_parent_that_does_not_read_blocks_nobody_and_losses_are_told() {
    collecting(LevelFilter::Info, || {
        // The lock of the logger keeps the reading thread, which is as good as a parent that does not read.
        let (inner, outer) = help::gate();
        let seen = SEEN.lock().unwrap();
        let process = forwarding().spawn(log_beyond, (inner,)).unwrap();
        let io = format!("/proc/{}/syscall", process.pid());
        until("it has logged all, and stands at the gate", || {
            // Its system call is a read from the gate's descriptor, not a send.
            std::fs::read_to_string(&io).is_ok_and(|call| call.starts_with("0 "))
        });
        drop(seen);
        drop(outer);
        process.join().unwrap();
        let texts = texts();
        let told = texts.last().unwrap();
        assert!(told.ends_with("records were lost: nobody read them in time"), "{told}");
        let lost: usize = told.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(texts.len() - 1 + lost, 100_000);
    });
}

fn log_for_a_panic() {
    log::info!(target: "panics", "x");
    log::info!("still here");
}

#[test]
fn a_logger_that_panics_harms_nobody() {
    collecting(LevelFilter::Info, || {
        forwarding().spawn(log_for_a_panic, ()).unwrap().join().unwrap();
        assert_eq!(texts(), ["[logs] still here"]);
    });
}

fn log_from_a_child() {
    forwarding().name("grandchild").spawn(log_many, (1,)).unwrap().join().unwrap();
}

#[test]
fn records_of_grandchildren_come_through_their_parents() {
    collecting(LevelFilter::Info, || {
        forwarding().spawn(log_from_a_child, ()).unwrap().join().unwrap();
        assert_eq!(texts(), ["[logs] [grandchild] record 0"]);
    });
}
