//! Where a worker was when it crashed.

#![expect(unsafe_code, reason = "tasks that crash on purpose")]

use mp_pool::{Cause, Crash, Pool, Report, TaskError};
use rustix::process::{Signal, getpid, kill_process};
use std::hint::black_box;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

#[inline(never)]
fn write_nowhere() {
    // SAFETY: none: this ends the process, which is what is tested.
    unsafe { black_box(std::ptr::null_mut::<u8>()).write_volatile(1) };
}

#[inline(never)]
fn the_culprit(depth: u32) -> u32 {
    if depth == 0 {
        write_nowhere();
    }
    black_box(depth) + if depth > 0 { the_culprit(depth - 1) } else { 0 }
}

fn crash() -> u32 {
    black_box(the_culprit(black_box(2)))
}

fn died<R: std::fmt::Debug>(result: Result<R, TaskError>) -> (Cause, Report) {
    match result {
        Err(TaskError::WorkerDied { cause, report }) => (cause, *report),
        other => panic!("{other:?}"),
    }
}

fn backtrace(report: &Report) -> (&Crash, String) {
    let crash = report.backtrace.as_ref().expect("a backtrace");
    assert!(crash.is_complete());
    (crash, crash.to_string())
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (cause, report) = died(pool.apply(crash, ()));
        assert_eq!(cause, Cause::Signal { number: 11, core: false });
        let (crash, text) = backtrace(&report);
        assert!(text.contains("the_culprit"), "{text}");
        assert_eq!((crash.signal(), crash.address()), (11, Some(0)));
    });
}

#[test]
fn the_frames_of_a_crash_stand_in_the_order_of_the_calls() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (_, report) = died(pool.apply(crash, ()));
        let (crash, text) = backtrace(&report);
        let frames = crash.frames();
        let names: Vec<&str> = frames.iter().filter_map(|frame| frame.function.as_deref()).collect();
        let at = |name: &str| names.iter().position(|known| known.contains(name));
        // Three calls of itself, and whoever called them.
        assert_eq!(names.iter().filter(|name| name.contains("the_culprit")).count(), 3, "{text}");
        assert!(at("the_culprit") < at("crash::crash"), "{text}");
        assert!(at("crash::crash").is_some(), "{text}");
        assert!(frames.iter().any(|frame| frame.image.is_some()));
        // The pool goes on, with a worker that has no crash to tell of.
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        let (cause, report) = died(pool.apply(kill_self, ()));
        assert_eq!(cause, Cause::Signal { number: 9, core: false });
        assert!(report.backtrace.is_none());
    });
}

fn kill_self() {
    kill_process(getpid(), Signal::KILL).expect("a signal");
}

#[test]
fn an_abort_tells_who_aborted() {
    #[inline(never)]
    fn give_up() {
        std::process::abort();
    }
    fn task() {
        give_up();
        black_box(());
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (cause, report) = died(pool.apply(task, ()));
        assert_eq!(cause, Cause::Signal { number: 6, core: false });
        let (crash, text) = backtrace(&report);
        assert_eq!((crash.signal(), crash.address()), (6, None));
        assert!(text.contains("abort"), "{text}");
        assert!(text.contains("give_up") || text.contains("an_abort_tells_who_aborted"), "{text}");
    });
}

#[test]
fn a_full_stack_is_told_as_such_with_who_filled_it() {
    #[expect(unconditional_recursion, reason = "this is what is tested")]
    fn fill(depth: u64) -> u64 {
        let page = black_box([depth; 512]);
        fill(black_box(page[7]) + 1) + page[3]
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (cause, report) = died(pool.apply(fill, (0,)));
        assert_eq!(cause, Cause::StackOverflow);
        let (crash, text) = backtrace(&report);
        assert!(crash.overflowed_stack());
        assert!(text.matches("fill").count() > 10, "{text}");
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn a_call_of_nothing_tells_who_called() {
    #[inline(never)]
    fn call_nothing() -> u32 {
        // SAFETY: none: this ends the process, which is what is tested.
        let nothing: extern "C" fn() -> u32 = unsafe { std::mem::transmute(black_box(16_usize)) };
        nothing() + black_box(1)
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (_, report) = died(pool.apply(call_nothing, ()));
        let (crash, text) = backtrace(&report);
        assert_eq!(crash.address(), Some(16));
        assert!(text.contains("call_nothing"), "{text}");
    });
}

#[test]
fn a_signal_that_somebody_sends_ends_the_worker_as_it_would_have() {
    fn raise(number: i32) {
        kill_process(getpid(), Signal::from_named_raw(number).expect("a signal")).expect("a signal");
        loop {
            std::thread::park();
        }
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        for number in [11, 7, 6, 4, 8, 5, 31] {
            let (cause, report) = died(pool.apply(raise, (number,)));
            assert_eq!(cause, Cause::Signal { number, core: false });
            assert_eq!(backtrace(&report).0.signal(), number);
        }
    });
}

#[test]
fn a_crash_of_another_thread_tells_its_name() {
    fn task() {
        let thread =
            std::thread::Builder::new().name("parser".into()).spawn(write_nowhere).expect("a thread");
        let _ = thread.join();
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (_, report) = died(pool.apply(task, ()));
        let (crash, text) = backtrace(&report);
        assert_eq!(crash.thread(), "parser");
        assert!(text.contains("write_nowhere"), "{text}");
    });
}

#[test]
fn many_threads_that_crash_at_once_are_one_crash() {
    fn task() {
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    write_nowhere();
                });
            }
        });
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        for _ in 0..10 {
            let (cause, report) = died(pool.apply(task, ()));
            assert_eq!(cause, Cause::Signal { number: 11, core: false });
            assert!(report.backtrace.is_some_and(|crash| !crash.frames().is_empty()));
        }
    });
}

/// A handler that the program sets later has the signal to itself.
#[test]
fn a_handler_of_the_task_is_left_alone() {
    static SEEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    fn task() -> u32 {
        // SAFETY: the handler changes an atomic, nothing else.
        let handled = unsafe {
            signal_hook::low_level::register(signal_hook::consts::SIGTRAP, || {
                SEEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            })
        };
        handled.expect("a handler");
        kill_process(getpid(), Signal::TRAP).expect("a signal");
        while SEEN.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        SEEN.load(std::sync::atomic::Ordering::Relaxed)
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.apply(task, ()).unwrap(), 1);
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

/// A copy that a plain fork made writes nothing into what is its parent's.
#[test]
fn a_copy_of_a_worker_that_crashes_is_no_crash_of_the_worker() {
    fn task() -> bool {
        // SAFETY: the child calls nothing but what ends it.
        match unsafe { mp_test_fork() } {
            0 => {
                write_nowhere();
                false
            }
            pid => {
                let pid = rustix::process::Pid::from_raw(pid);
                let status = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
                status.ok().flatten().is_some_and(|(_, status)| status.terminating_signal() == Some(11))
            }
        }
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert!(pool.apply(task, ()).unwrap());
        let (_, report) = died(pool.apply(kill_self, ()));
        assert!(report.backtrace.is_none());
    });
}

unsafe extern "C" {
    #[link_name = "fork"]
    fn mp_test_fork() -> i32;
}

#[test]
fn a_panic_has_its_backtrace() {
    #[inline(never)]
    fn the_one_who_panics() {
        panic!("on purpose");
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        match pool.apply(the_one_who_panics, ()) {
            Err(TaskError::Panicked(panic)) => {
                assert!(panic.backtrace.contains("the_one_who_panics"), "{}", panic.backtrace);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_worker_out_of_memory_is_told_as_such_still() {
    fn hoard() -> usize {
        let mut all = Vec::new();
        loop {
            all.push(black_box(vec![1_u8; 8 << 20]));
        }
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).memory_limit(256 << 20).build().unwrap();
        let (cause, report) = died(pool.apply(hoard, ()));
        assert_eq!(cause, Cause::Memory);
        assert!(report.backtrace.is_some());
    });
}
