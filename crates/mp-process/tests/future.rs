//! Processes in futures: under an executor that knows nothing of descriptors, and under tokio's.

#![expect(unsafe_code, reason = "tokio wants to be told that a descriptor stays the same")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{ExitStatus, JoinError, Process, Stdio};
use mp_test::{guarded, until};
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mp_process::enable_test_support!();

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The plainest executor: polls, and parks its thread in between.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The thread of async-io and its descriptors stay once a future has waited: they must not count as left behind.
fn begun() {
    let (inner, outer) = gate();
    let process = Process::spawn(stand, (inner,)).unwrap();
    let mut join = pin!(process.into_future());
    assert!(join.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(outer);
    assert!(block_on(join).is_ok());
}

fn square(n: u64) -> u64 {
    n * n
}

fn abort() {
    std::process::abort();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn smoke() {
    begun();
    guarded(|| {
        let results = block_on(async {
            let processes: Vec<_> = (0..3).map(|n| Process::spawn(square, (n,)).unwrap()).collect();
            let mut results = Vec::new();
            for process in processes {
                results.push(process.await.unwrap());
            }
            results
        });
        assert_eq!(results, [0, 1, 4]);
    });
}

#[test]
fn a_process_is_awaited_under_tokio() {
    begun();
    guarded(|| {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        for runtime in [runtime(), threads.unwrap()] {
            runtime.block_on(async {
                let started = Process::spawn(square, (7,)).unwrap();
                let task = tokio::spawn(async { started.await.unwrap() });
                assert_eq!(task.await.unwrap(), 49);
                let process = Process::builder().core_dump(false).spawn(abort, ()).unwrap();
                assert!(matches!(process.await, Err(JoinError::Signal { number: 6, .. })));
            });
        }
    });
}

#[test]
fn giving_up_waiting_keeps_the_handle() {
    begun();
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        runtime().block_on(async {
            let waited = tokio::time::timeout(Duration::from_millis(10), process.wait_async()).await;
            assert!(waited.is_err() && process.is_alive());
            drop(outer);
            assert_eq!(process.wait_async().await.unwrap(), ExitStatus::Code(0));
            let pid = process.pid();
            assert_eq!(process.await.unwrap(), pid);
        });
    });
}

#[test]
fn dropping_the_future_leaves_the_process_running_and_reaps_it() {
    begun();
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        let pid = process.pid();
        {
            let mut join = pin!(process.into_future());
            assert!(join.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(help::exists(pid));
        drop(outer);
        until("it is reaped", || !help::exists(pid));
    });
}

fn talk() {
    for n in 0..20_000 {
        println!("line {n}");
    }
}

#[test]
fn a_future_reads_the_pipes_that_nobody_took() {
    begun();
    guarded(|| {
        let piped = Process::builder().stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped);
        block_on(piped.spawn(talk, ()).unwrap().into_future()).unwrap();
    });
}

#[test]
fn the_descriptor_of_a_process_works_in_tokio() {
    guarded(|| {
        let (inner, outer) = gate();
        let process = Process::spawn(stand, (inner,)).unwrap();
        runtime().block_on(async {
            // SAFETY: a handle keeps its descriptor until it is dropped.
            let polled = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }.unwrap();
            let early = tokio::time::timeout(Duration::from_millis(10), polled.readable()).await;
            assert!(early.is_err());
            drop(outer);
            let _ready = polled.readable().await.unwrap();
            assert!(!polled.get_ref().is_alive());
        });
    });
}
