//! Faults in unusual places: at a worker's end, in the panic itself, while a task or its result is on its way, in the surroundings.

use mp_pool::{Cause, Pool, PoolError, TaskError};
use mp_process::{Process, StartMethod};
use mp_shm::{Array, Value};
use mp_test::{Role, until};
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn cause<R: std::fmt::Debug>(result: Result<R, TaskError>) -> Cause {
    match result {
        Err(TaskError::WorkerDied { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

/// What goes wrong when the thread ends.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Last {
    Panic,
    Abort,
    Exit,
    Hang,
}

struct Mine(Last);

impl Drop for Mine {
    #[expect(clippy::disallowed_methods, reason = "an exit where none belongs")]
    fn drop(&mut self) {
        match self.0 {
            Last::Panic => panic!("in a destructor"),
            Last::Abort => std::process::abort(),
            Last::Exit => std::process::exit(3),
            Last::Hang => loop {
                thread::park();
            },
        }
    }
}

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
}

fn leave_behind(last: Last) -> u32 {
    MINE.set(Some(Mine(last)));
    std::process::id()
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        pool.apply(leave_behind, (Last::Abort,)).unwrap();
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn a_thread_local_destructor_harms_neither_results_nor_the_end() {
    guarded(|| {
        for last in [Last::Panic, Last::Abort, Last::Exit, Last::Hang] {
            // Each worker leaves after one task.
            let pool = Pool::builder().workers(2).max_tasks_per_child(1).build().unwrap();
            let pids: Vec<_> = (0..4).map(|_| pool.apply_async(leave_behind, (last,))).collect();
            assert!(pids.into_iter().all(|result| result.get().is_ok()), "{last:?}");
            pool.close();
            let summary = pool.join().unwrap();
            assert_eq!((summary.unread_errors, summary.stats.succeeded), (0, 4));
        }
    });
}

/// Its drop runs after the task, before the result is sent.
#[derive(serde::Serialize, serde::Deserialize)]
struct Trap(u32);

impl Drop for Trap {
    fn drop(&mut self) {
        assert!(mp_pool::worker_index().is_none() || self.0 != 7, "dropped in the worker");
    }
}

#[test]
fn an_argument_whose_drop_panics_is_a_panic_of_its_task_alone() {
    fn take(trap: Trap) -> u32 {
        trap.0
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert!(matches!(pool.apply(take, (Trap(7),)), Err(TaskError::Panicked(_))));
        assert_eq!(pool.apply(take, (Trap(8),)).unwrap(), 8);
    });
}

#[test]
fn a_panic_with_no_text_and_one_in_the_panics_hook_are_told() {
    fn no_text() {
        std::panic::panic_any(vec![1, 2, 3]);
    }
    fn in_the_hook() {
        std::panic::set_hook(Box::new(|_| panic!("in the hook")));
        panic!("outside of it");
    }
    /// Its drop panics as well.
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("a payload");
        }
    }
    fn payload() {
        std::panic::panic_any(Payload);
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        for result in [pool.apply(no_text, ()), pool.apply(payload, ())] {
            match result {
                Err(TaskError::Panicked(panic)) => assert!(!panic.message.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(cause(pool.apply(in_the_hook, ())), Cause::Signal { number: 6, .. }));
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

/// A loop that computes, a wait in the kernel, a wait for a thread: all end, and their place is free.
#[test]
fn whatever_a_task_hangs_in_its_timeout_ends_it() {
    fn compute(started: Value<u32>) {
        started.set(1);
        let mut n = 0_u64;
        while std::hint::black_box(n) < u64::MAX {
            n = n.wrapping_mul(3) / 2;
        }
    }
    fn read_for_ever(started: Value<u32>) {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        started.set(1);
        let _ = rustix::io::read(&reader, &mut [0; 1]);
    }
    fn park_in_a_thread(started: Value<u32>) {
        started.set(1);
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    thread::park();
                }
            });
        });
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::from_millis(20)).build().unwrap();
        let timeout = Duration::from_millis(50);
        for way in 0..3 {
            let started = Value::new(0).unwrap();
            let result = match way {
                0 => pool.task(compute).timeout(timeout).apply((started.clone(),)),
                1 => pool.task(read_for_ever).timeout(timeout).apply((started.clone(),)),
                _ => pool.task(park_in_a_thread).timeout(timeout).apply((started.clone(),)),
            };
            assert!(matches!(result, Err(TaskError::TimedOut)), "{way}: {result:?}");
            assert_eq!(started.get(), 1);
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        }
    });
}

#[test]
fn an_initializer_that_hangs_is_ended_by_the_start_timeout() {
    fn hang() {
        loop {
            thread::park();
        }
    }
    guarded(|| {
        let builder = Pool::builder().workers(2).start_timeout(Duration::from_millis(200));
        match builder.initializer(hang, ()).build() {
            Ok(pool) => assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Broken(_)))),
            // On a busy machine it is over before a process has come as far as its initializer.
            Err(error) => assert!(matches!(error, PoolError::Spawn(_)), "{error}"),
        }
    });
}

/// Children that a task started as daemons end with their worker.
#[test]
fn the_daemons_of_a_task_end_with_its_worker() {
    fn child(pids: Array<u32>) {
        pids.at(0).set(std::process::id());
        loop {
            thread::park();
        }
    }
    fn task(pids: Array<u32>) {
        let process = Process::builder().daemon(true).spawn(child, (pids,)).expect("a child");
        process.join().expect("no end");
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::ZERO).build().unwrap();
        let pids = Array::<u32>::new(1).unwrap();
        let hanging = pool.task(task).apply_async((pids.clone(),));
        until("the child runs", || pids.at(0).get() != 0);
        let child = mp_core::Identity::of(pids.at(0).get()).expect("alive");
        hanging.cancel();
        assert!(matches!(hanging.get(), Err(TaskError::Cancelled)));
        until("the child has ended", || !child.is_alive());
    });
}

#[test]
fn a_cancel_in_the_middle_of_a_large_transfer_hits_that_task_alone() {
    fn length(text: String) -> usize {
        text.len()
    }
    fn large(bytes: usize) -> String {
        "x".repeat(bytes)
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).grace(Duration::from_millis(5)).build().unwrap();
        let text = "y".repeat(16 << 20);
        for round in 0..12_u32 {
            // One on its way there, one on its way back.
            let there = pool.apply_async(length, (text.clone(),));
            let back = pool.apply_async(large, (32 << 20,));
            let others: Vec<_> = (0..20).map(|n| pool.apply_async(square, (n,))).collect();
            let until = Instant::now() + Duration::from_micros(u64::from(round) * 700);
            while Instant::now() < until {
                thread::yield_now();
            }
            there.cancel();
            back.cancel();
            assert!((0..).zip(others).all(|(n, result)| result.get().unwrap() == n * n));
            // Whichever was first.
            match there.get() {
                Ok(length) => assert_eq!(length, text.len()),
                Err(error) => assert!(matches!(error, TaskError::Cancelled), "{error}"),
            }
            match back.get() {
                Ok(text) => assert_eq!(text.len(), 32 << 20),
                Err(error) => assert!(matches!(error, TaskError::Cancelled), "{error}"),
            }
        }
        assert_eq!(pool.apply(length, (text.clone(),)).unwrap(), text.len());
    });
}

#[test]
fn a_future_waits_for_room_in_a_limited_queue() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    fn wait_for(flag: Value<u32>) {
        flag.set(1);
        while flag.get() != 2 {
            thread::yield_now();
        }
    }
    fn can_be_sent<T: Send>(value: T) -> T {
        value
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).queue_limit(1).build().unwrap();
        let flag = Value::new(0).unwrap();
        let first = pool.apply_async(wait_for, (flag.clone(),));
        until("the first task runs", || flag.get() == 1);
        let woken = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut second = Box::pin(can_be_sent(pool.task(square).apply_when_room((5,))));
        let mut dropped = Box::pin(pool.task(square).apply_when_room((6,)));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        drop(dropped);
        flag.set(2);
        first.get().unwrap();
        until("it is woken", || woken.0.load(Relaxed));
        let Poll::Ready(second) = second.as_mut().poll(&mut context) else { panic!("no room") };
        assert_eq!(second.get().unwrap(), 25);
        // Who waits when the pool ends is told.
        flag.set(0);
        let first = pool.apply_async(wait_for, (flag.clone(),));
        until("it runs", || flag.get() == 1);
        woken.0.store(false, Relaxed);
        let mut late = Box::pin(pool.task(square).apply_when_room((7,)));
        assert!(late.as_mut().poll(&mut context).is_pending());
        pool.terminate();
        until("it is woken", || woken.0.load(Relaxed));
        let Poll::Ready(late) = late.as_mut().poll(&mut context) else { panic!("it waits for ever") };
        assert!(matches!(late.get(), Err(TaskError::Closed)));
        assert!(first.get().is_err());
        // Without a limit there is always room.
        let pool = Pool::new(1).unwrap();
        let mut at_once = Box::pin(pool.task(square).apply_when_room((8,)));
        let Poll::Ready(result) = at_once.as_mut().poll(&mut context) else { panic!("no room") };
        assert_eq!(result.get().unwrap(), 64);
    });
}

/// Some child is stopped as soon as it is a program of its own: in the middle of its start. One that is stopped between `vfork` and
/// `exec` keeps its starter in the kernel until it goes on or is killed; a terminal's Ctrl-Z stops both, and `fg` lets both go on.
#[test]
fn a_worker_stopped_in_its_start_holds_nobody_up() {
    mp_test::guarded(|| {
        for _ in 0..5 {
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut stopped = Vec::new();
                    while !done.load(Relaxed) && stopped.len() < 3 {
                        let new: Vec<u32> =
                            children().into_iter().filter(|pid| !stopped.contains(pid)).collect();
                        for pid in new {
                            signal(pid, Signal::STOP);
                            stopped.push(pid);
                        }
                    }
                });
                let builder = Pool::builder().workers(2).start_method(StartMethod::Spawn);
                match builder.start_timeout(Duration::from_millis(200)).build() {
                    Ok(pool) => {
                        // Stopped a little later, behind its start, it is a task's time-out that ends it.
                        let task = pool.task(square).timeout(Duration::from_secs(1));
                        let result = task.apply((3,));
                        let expected =
                            matches!(result, Ok(9) | Err(TaskError::Broken(_) | TaskError::TimedOut));
                        assert!(expected, "{result:?}");
                    }
                    Err(PoolError::Spawn(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
                done.store(true, Relaxed);
            });
        }
    });
}

fn children() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect::<Vec<_>>().join(" ");
    // Before it is a program of its own it has its starter's name.
    let is_own = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("faults") || name.starts_with("PoolWorker"))
    };
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_own).collect()
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal);
}

/// A program that ignores SIGCHLD, and one that waits for all children itself: the pool's workers have no status, and it works.
#[test]
fn others_who_take_the_status_of_workers_cost_the_cause_alone() {
    fn exit_with(code: i32) {
        #[expect(clippy::disallowed_methods, reason = "a task that exits")]
        std::process::exit(code);
    }
    let test = "others_who_take_the_status_of_workers_cost_the_cause_alone";
    if let Some(role) = mp_test::role() {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            if role == "thief" {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
                        thread::yield_now();
                    }
                });
            }
            let pool = Pool::new(2).unwrap();
            for n in 0..20 {
                let cause = cause(pool.apply(exit_with, (3,)));
                assert!(matches!(cause, Cause::Exit(3) | Cause::Unknown), "{cause:?}");
                assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
            }
            pool.close();
            pool.join().unwrap();
            done.store(true, Relaxed);
        });
        mp_test::say("done");
        return;
    }
    guarded(|| {
        for (role, prepare) in [("thief", ""), ("ignores", "trap '' CHLD; "), ("no streams", "exec 0<&-; ")] {
            let mut role = Role::start(after(prepare, &mp_test::command(test, role)));
            role.expect("done");
            assert!(role.wait().success());
        }
    });
}

fn abort() {
    std::process::abort();
}

#[test]
fn a_program_without_standard_streams_has_a_pool_all_the_same() {
    let test = "a_program_without_standard_streams_has_a_pool_all_the_same";
    if mp_test::role().is_some() {
        let path = std::env::var("MP_POOL_TEST_ANSWER").unwrap();
        let pool = Pool::builder().workers(2).capture_stdout(true).build().unwrap();
        let right = pool.map(square, 0..1000).is_ok_and(|squares| squares[30] == 900);
        let died = matches!(cause(pool.apply(abort, ())), Cause::Signal { number: 6, .. });
        std::fs::write(path, format!("{right} {died}")).unwrap();
        return;
    }
    guarded(|| {
        let path = std::env::temp_dir().join(format!("mp-pool-streams-{}", getpid()));
        let mut role = after("exec 0<&- 1>&- 2>&-; ", &mp_test::command(test, "closed"));
        assert!(role.env("MP_POOL_TEST_ANSWER", &path).status().unwrap().success());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "true true");
        std::fs::remove_file(&path).unwrap();
    });
}

/// `command`, after the shell has done what it is told.
fn after(prepare: &str, command: &std::process::Command) -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{prepare}exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// Many times what fits into a pipe.
const FLOOD: usize = 4 << 20;

fn flood() -> usize {
    let line = [b'~'; 1 << 10];
    for _ in 0..FLOOD / line.len() {
        std::io::stdout().write_all(&line).expect("standard output");
        std::io::stderr().write_all(&line).expect("standard error");
    }
    FLOOD
}

/// What a pipe holds; so much of a worker that ends is not passed on where nobody takes it at once.
const PIPEFUL: usize = 64 << 10;

/// Captured or not, it is done, the others are, and what it wrote was passed on.
#[test]
fn a_task_that_floods_both_streams_is_done_and_so_are_the_others() {
    let test = "a_task_that_floods_both_streams_is_done_and_so_are_the_others";
    if let Some(role) = mp_test::role() {
        let pool = Pool::builder().workers(2).capture_stdout(role == "captured").build().unwrap();
        let floods = [pool.apply_async(flood, ()), pool.apply_async(flood, ())];
        assert_eq!(pool.map(square, 0..1000).unwrap()[30], 900);
        assert!(floods.into_iter().all(|flood| flood.get().unwrap() == FLOOD));
        pool.close();
        pool.join().unwrap();
        return;
    }
    guarded(|| {
        for role in ["captured", "inherited"] {
            let mut role = mp_test::command(test, role);
            let output = role.stdin(std::process::Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{}", output.status);
            let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'~').count();
            for stream in [&output.stdout, &output.stderr] {
                let all = 2 * FLOOD;
                assert!((all - 2 * PIPEFUL..=all).contains(&count(stream)), "{}", count(stream));
            }
        }
    });
}
