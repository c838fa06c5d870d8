//! Tasks that lay hands on what is their worker's own: its descriptors, its process, its line.

#![expect(unsafe_code, reason = "tasks that close what is not theirs, and fork")]

use mp_pool::{Cause, Pool, Reason, TaskError};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn hang() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn cause<R: std::fmt::Debug>(result: Result<R, TaskError>) -> Cause {
    match result {
        Err(TaskError::WorkerDied { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

/// As programs do that become daemons.
fn close_everything() {
    for number in 3..1024 {
        // SAFETY: none: the worker's own descriptors are closed behind its back, which is what is tested.
        unsafe { mp_test_close(number) };
    }
}

#[test]
fn smoke() {
    fn task() {
        close_everything();
        hang();
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert_eq!(cause(pool.apply(task, ())), Cause::Killed(Reason::LineClosed));
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn a_task_that_closes_the_line_and_returns_has_its_result_and_stops_nobody() {
    fn task(n: u64) -> u64 {
        close_everything();
        n + 1
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        for n in 0..20 {
            assert_eq!(pool.apply(task, (n,)).unwrap(), n + 1);
            let others: Vec<_> = (0..10).map(|n| pool.apply_async(square, (n,))).collect();
            assert!((0..).zip(others).all(|(n, result)| result.get().unwrap() == n * n));
        }
    });
}

#[test]
fn an_item_of_a_map_that_closes_the_line_costs_one_item_at_most() {
    fn item(n: u64) -> u64 {
        if n == 700 {
            close_everything();
        }
        n
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let results = pool.try_map(item, 0..20_000);
        let lost: Vec<_> =
            (0_u64..).zip(results).filter(|(n, result)| result.as_ref().ok() != Some(n)).collect();
        assert!(lost.len() <= 1, "{lost:?}");
        assert_eq!(pool.map(square, 0..100).unwrap()[9], 81);
    });
}

#[test]
fn an_initializer_that_closes_the_line_breaks_the_pool_and_burns_no_processor() {
    fn initializer() {
        close_everything();
        hang();
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).initializer(initializer, ()).build().unwrap();
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Broken(_))));
    });
}

#[test]
fn a_task_that_becomes_another_program_is_that_programs_end_or_is_ended() {
    fn become_another(program: String, argument: String) -> String {
        Command::new(program).arg(argument).exec().to_string()
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let run =
            |program: &str, argument: &str| pool.apply(become_another, (program.into(), argument.into()));
        assert_eq!(cause(run("true", "")), Cause::Exit(0));
        assert_eq!(cause(run("sleep", "3600")), Cause::Killed(Reason::LineClosed));
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

unsafe extern "C" {
    #[link_name = "fork"]
    fn mp_test_fork() -> i32;
    #[link_name = "close"]
    fn mp_test_close(number: i32) -> i32;
}

/// Forks; the copy returns at once with the number of its own, or panics, the worker when the copy has ended.
fn fork_and_return(n: u64, panics: bool) -> u64 {
    // SAFETY: none that a threaded program could give; what the copy does is what is tested.
    match unsafe { mp_test_fork() } {
        0 if panics => panic!("the copy panics"),
        0 => 1_000_000 + n,
        pid => {
            let status =
                waitpid(Pid::from_raw(pid), WaitOptions::empty()).ok().flatten().map(|(_, status)| status);
            status.and_then(|status| status.exit_status()).map_or(999, |status| status.unsigned_abs().into())
        }
    }
}

#[test]
fn a_copy_made_by_fork_sends_no_result() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        for n in 0..20 {
            assert_eq!(pool.apply(fork_and_return, (n, n % 2 == 0)).unwrap(), 1, "the copy's exit status");
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
        assert!(pool.stats().deaths.is_empty());
    });
}

#[test]
fn a_copy_made_by_fork_in_a_map_writes_nothing() {
    fn item(n: u64) -> u64 {
        if n.is_multiple_of(500) { fork_and_return(n, n.is_multiple_of(1000)) } else { n }
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let expected: Vec<u64> = (0..4000).map(|n| if n % 500 == 0 { 1 } else { n }).collect();
        assert_eq!(pool.map(item, 0..4000).unwrap(), expected);
        assert_eq!(pool.map(square, 0..4000).unwrap()[9], 81);
    });
}

#[test]
fn a_copy_made_by_fork_in_an_initializer_is_no_second_worker() {
    fn initializer() {
        fork_and_return(0, false);
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).initializer(initializer, ()).build().unwrap();
        assert_eq!(pool.map(square, 0..100).unwrap()[9], 81);
        assert_eq!(pool.stats().started, 2);
    });
}

#[test]
fn a_copy_made_by_fork_says_why_it_ends() {
    fn task() -> String {
        let text = std::env::temp_dir().join(format!("mp-pool-copy-{}", std::process::id()));
        let file = std::fs::File::create(&text).expect("a file");
        let kept = rustix::io::dup(rustix::stdio::stderr()).expect("a copy");
        rustix::stdio::dup2_stderr(&file).expect("another standard error");
        let status = fork_and_return(0, false);
        if status > 1000 {
            return "of the copy".into();
        }
        rustix::stdio::dup2_stderr(&kept).expect("the old one");
        let said = std::fs::read_to_string(&text).expect("text");
        std::fs::remove_file(&text).expect("removed");
        format!("{status} {said}")
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let said = pool.apply(task, ()).unwrap();
        assert!(said.starts_with("1 ") && said.contains("fork") && said.contains("_exit"), "{said}");
    });
}
