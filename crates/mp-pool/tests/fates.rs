//! How tasks end: time-outs of each kind, cancelling, tries, errors that nobody reads.

use mp_pool::{Cause, Pool, RemoteError, Retry, TaskError};
use mp_shm::Value;
use mp_test::until;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

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

/// Says that it runs, and does so until `flag` is two.
fn run_until_two(flag: Value<u32>) -> u32 {
    flag.set(1);
    while flag.get() != 2 {
        thread::yield_now();
    }
    std::process::id()
}

fn count(counter: Value<u32>) -> u32 {
    counter.set(counter.get() + 1);
    counter.get()
}

fn die(counter: Value<u32>, deaths: u32) -> u32 {
    counter.set(counter.get() + 1);
    if counter.get() <= deaths {
        std::process::abort();
    }
    mp_pool::attempt()
}

/// A pool of one whose worker is busy until the flag is two.
fn busy_pool() -> (Pool, Value<u32>, mp_pool::AsyncResult<u32>) {
    let pool = Pool::builder().workers(1).grace(Duration::from_millis(20)).build().expect("a pool");
    let flag = Value::new(0).expect("a value");
    let first = pool.apply_async(run_until_two, (flag.clone(),));
    until("the first task runs", || flag.get() == 1);
    (pool, flag, first)
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.task(square).timeout(Duration::from_secs(60)).apply((4,)).unwrap(), 16);
    });
}

#[test]
fn a_queue_timeout_hits_what_has_not_started_and_nothing_else() {
    guarded(|| {
        let (pool, flag, first) = busy_pool();
        let counter = Value::new(0).unwrap();
        // One waits at the worker already, the others in the queue.
        let late: Vec<_> = (0..40)
            .map(|_| {
                pool.task(count).queue_timeout(Duration::from_millis(20)).apply_async((counter.clone(),))
            })
            .collect();
        let patient = pool.task(square).queue_timeout(Duration::from_secs(600)).apply_async((3,));
        for result in late {
            assert!(matches!(result.get(), Err(TaskError::QueueTimedOut)));
        }
        assert!(!first.ready());
        flag.set(2);
        first.get().unwrap();
        assert_eq!(patient.get().unwrap(), 9);
        assert_eq!(counter.get(), 0, "a task ran that had timed out in the queue");
        // It does not count while a task runs.
        assert_eq!(pool.task(square).queue_timeout(Duration::from_secs(600)).apply((5,)).unwrap(), 25);
    });
}

#[test]
fn a_deadline_ends_what_runs_and_what_waits() {
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::from_millis(10)).build().unwrap();
        let deadline = Instant::now() + Duration::from_millis(100);
        let runs = pool.task(hang).deadline(deadline).apply_async(());
        let waits = pool.task(square).deadline(deadline).apply_async((1,));
        let after = pool.apply_async(square, (2,));
        assert!(matches!(runs.get(), Err(TaskError::DeadlinePassed)));
        assert!(Instant::now() >= deadline);
        assert!(matches!(waits.get(), Err(TaskError::DeadlinePassed)));
        assert_eq!(after.get().unwrap(), 4);
        // A map's deadline is for the whole.
        let deadline = Instant::now() + Duration::from_millis(50);
        let results = pool.task(maybe_hang).deadline(deadline).try_map(0..5);
        assert!(
            results[1..].iter().all(|result| matches!(result, Err(TaskError::DeadlinePassed))),
            "{results:?}"
        );
    });
}

fn maybe_hang(n: u64) -> u64 {
    if n == 1 {
        hang();
    }
    n
}

#[test]
fn a_cancelled_task_that_has_not_started_never_runs() {
    guarded(|| {
        let (pool, flag, first) = busy_pool();
        let counter = Value::new(0).unwrap();
        let waiting: Vec<_> = (0..40).map(|_| pool.apply_async(count, (counter.clone(),))).collect();
        let kept = pool.apply_async(square, (6,));
        // The next in line first, then the others.
        assert!(waiting.iter().all(mp_pool::AsyncResult::cancel));
        for result in waiting {
            assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        }
        assert!(!first.ready());
        flag.set(2);
        first.get().unwrap();
        assert_eq!(kept.get().unwrap(), 36);
        assert_eq!(counter.get(), 0, "a cancelled task ran");
    });
}

fn stop_when_asked(flag: Value<u32>) -> u32 {
    flag.set(1);
    while !mp_pool::cancelled() {
        thread::yield_now();
    }
    flag.set(2);
    std::process::id()
}

#[test]
fn a_running_task_is_asked_to_stop_and_its_worker_lives() {
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::from_secs(3600)).build().unwrap();
        let worker = pool.apply(std::process::id, ()).unwrap();
        let flag = Value::new(0).unwrap();
        let result = pool.apply_async(stop_when_asked, (flag.clone(),));
        until("the task runs", || flag.get() == 1);
        assert!(result.cancel());
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        assert_eq!(flag.get(), 2);
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
        assert!(!pool.apply(mp_pool::cancelled, ()).unwrap(), "the next task was asked to stop");
    });
}

#[test]
fn a_running_task_that_does_not_stop_is_killed_and_no_other() {
    guarded(|| {
        let (pool, _flag, first) = busy_pool();
        let others: Vec<_> = (0..40).map(|n| pool.apply_async(square, (n,))).collect();
        assert!(first.cancel());
        assert!(matches!(first.get(), Err(TaskError::Cancelled)));
        for (n, result) in (0..40_u64).zip(others) {
            assert_eq!(result.get().unwrap(), n * n);
        }
    });
}

#[test]
fn cancelling_what_is_done_is_nothing() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let result = pool.apply_async(square, (3,));
        result.wait();
        assert!(!result.cancel());
        assert_eq!(result.get().unwrap(), 9);
        let result = pool.apply_async(hang, ());
        result.cancel();
        result.cancel();
        pool.terminate();
        pool.join().unwrap();
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
    });
}

#[test]
fn a_cancelled_map_stops_as_a_whole() {
    guarded(|| {
        let pool = Pool::builder().workers(2).grace(Duration::from_millis(10)).build().unwrap();
        let result = pool.task(sleep_long).chunk_size(3).map_async(0..100);
        result.cancel();
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
    });
}

fn sleep_long(_: u64) {
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn a_task_is_tried_again_until_it_works() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let counter = Value::new(0).unwrap();
        let task = pool.task(die).retry(Retry::times(3).backoff(Duration::from_millis(40)));
        let before = Instant::now();
        assert_eq!(task.apply((counter.clone(), 2)).unwrap(), 2, "its third attempt");
        assert_eq!(counter.get(), 3);
        // Pauses of 40 and 80 ms, by chance up to a quarter shorter.
        assert!(before.elapsed() >= Duration::from_millis(90), "{:?}", before.elapsed());
        assert_eq!(pool.stats().retried, 2);
    });
}

#[test]
fn a_poison_task_is_named_with_its_attempts_and_harms_no_other() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let counter = Value::new(0).unwrap();
        let bad = pool.task(die).retry(Retry::times(2)).apply_async((counter.clone(), u32::MAX));
        let good: Vec<_> = (0..200).map(|n| pool.apply_async(square, (n,))).collect();
        match bad.get() {
            Err(TaskError::Poison { function, attempts }) => {
                assert!(function.contains("die"), "{function}");
                assert_eq!(attempts.len(), 3);
                let aborted = |error: &TaskError| {
                    matches!(error, TaskError::WorkerDied { cause: Cause::Signal { number: 6, .. }, .. })
                };
                assert!(attempts.iter().all(aborted), "{attempts:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(counter.get(), 3, "so many workers it cost, and no more");
        for (n, result) in (0..200_u64).zip(good) {
            assert_eq!(result.get().unwrap(), n * n);
        }
    });
}

#[test]
fn one_bad_item_of_a_chunk_is_tried_again_alone() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let counter = Value::new(0).unwrap();
        let items = (0..50_u32).map(|n| (counter.clone(), n));
        let results = pool.task(die_at_seven).retry(Retry::times(1)).chunk_size(25).starmap(items);
        assert!(matches!(results, Err(TaskError::Poison { .. })), "{results:?}");
        let runs = counter.get();
        assert_eq!(runs, 2, "the bad item ran {runs} times");
    });
}

fn die_at_seven(counter: Value<u32>, n: u32) -> u32 {
    if n == 7 {
        counter.set(counter.get() + 1);
        std::process::abort();
    }
    n
}

fn hang_at_first(counter: Value<u32>) -> u32 {
    counter.set(counter.get() + 1);
    if counter.get() == 1 {
        hang();
    }
    7
}

#[test]
fn timeouts_and_panics_are_tried_again_when_asked_for() {
    guarded(|| {
        let pool = Pool::builder().workers(1).grace(Duration::ZERO).build().unwrap();
        let counter = Value::new(0).unwrap();
        let task = || pool.task(hang_at_first).timeout(Duration::from_millis(50));
        assert!(matches!(task().retry(Retry::times(1)).apply((counter.clone(),)), Err(TaskError::TimedOut)));
        counter.set(0);
        assert_eq!(task().retry(Retry::times(1).after_timeouts()).apply((counter.clone(),)).unwrap(), 7);
        let panics = pool.task(panic_always).retry(Retry::times(2).after_panics()).apply(());
        assert!(
            matches!(&panics, Err(TaskError::Poison { attempts, .. }) if attempts.len() == 3),
            "{panics:?}"
        );
        assert!(matches!(
            pool.task(panic_always).retry(Retry::times(2)).apply(()),
            Err(TaskError::Panicked(_))
        ));
    });
}

fn panic_always() {
    panic!("as always");
}

#[test]
fn errors_that_nobody_read_are_counted() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let unread = pool.apply_async(panic_always, ());
        unread.wait();
        drop(unread);
        drop(pool.apply_async(panic_always, ()));
        let read = pool.apply_async(panic_always, ());
        assert!(read.get().is_err());
        drop(pool.apply_async(square, (1,)));
        pool.close();
        let summary = pool.join().unwrap();
        assert_eq!(summary.unread_errors, 2);
        assert_eq!((summary.stats.succeeded, summary.stats.failed), (1, 3));
    });
}

#[test]
fn what_was_cancelled_at_the_end_is_no_unread_error() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        drop(pool.apply_async(hang, ()));
        pool.terminate();
        assert_eq!(pool.join().unwrap().unread_errors, 0);
    });
}

/// Polls a future on this thread; what wakes it unparks it. No runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_result_is_a_future_that_needs_no_runtime() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(block_on(pool.apply_async(square, (8,))).unwrap(), 64);
        let sum = block_on(async {
            let mut sum = 0;
            for result in (0..20).map(|n| pool.apply_async(square, (n,))).collect::<Vec<_>>() {
                sum += result.await.unwrap();
            }
            sum
        });
        assert_eq!(sum, (0..20).map(|n| n * n).sum());
        let squares = block_on(pool.map_async(square, 0..10)).unwrap();
        assert_eq!(squares[9], 81);
        assert!(block_on(pool.apply_async(panic_always, ())).is_err());
    });
}

/// Looks at the pool, drops it, and panics.
struct Ruthless(Mutex<Option<Pool>>, AtomicU64);

impl Wake for Ruthless {
    fn wake(self: Arc<Self>) {
        let pool = self.0.lock().expect("no panic before").take();
        self.1.store(pool.as_ref().map_or(0, |pool| pool.stats().succeeded + 1), SeqCst);
        drop(pool);
        panic!("a waker");
    }
}

#[test]
fn a_waker_may_use_the_pool_drop_it_and_panic() {
    guarded(|| {
        let (pool, flag, first) = busy_pool();
        let waker = Arc::new(Ruthless(Mutex::new(None), AtomicU64::new(0)));
        let mut future = Box::pin(first);
        let as_waker = Waker::from(Arc::clone(&waker));
        assert!(future.as_mut().poll(&mut Context::from_waker(&as_waker)).is_pending());
        *waker.0.lock().unwrap() = Some(pool);
        flag.set(2);
        until("it is woken", || waker.1.load(SeqCst) > 0);
        assert!(matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))));
    });
}

#[test]
fn a_future_that_is_dropped_in_the_middle_loses_nothing_else() {
    guarded(|| {
        let (pool, flag, first) = busy_pool();
        let mut future = Box::pin(pool.apply_async(square, (2,)));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(future);
        flag.set(2);
        first.get().unwrap();
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

fn chain(text: String) -> Result<i32, RemoteError> {
    let number = text.parse::<i32>().map_err(std::io::Error::other)?;
    Ok(number)
}

#[test]
fn an_error_crosses_with_kind_message_and_chain() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let error = pool.apply(chain, ("x".to_owned(),)).unwrap().unwrap_err();
        assert!(error.kind().contains("io::error::Error"), "{}", error.kind());
        assert_eq!(error.to_string(), "invalid digit found in string");
    });
}

fn say_and_exit(text: String) {
    println!("{text}");
    eprintln!("on error: {text}");
    std::process::abort();
}

#[test]
fn the_report_of_a_death_has_the_last_words_of_both_streams() {
    guarded(|| {
        let pool = Pool::builder().workers(1).capture_stdout(true).build().unwrap();
        match pool.apply(say_and_exit, ("some last words".to_owned(),)) {
            Err(TaskError::WorkerDied { cause: Cause::Signal { number: 6, .. }, report }) => {
                assert!(report.stdout.contains("some last words"), "{report:?}");
                assert!(report.stderr.contains("on error: some last words"), "{report:?}");
                assert!(report.pid > 0);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

fn burn() {
    let mut n = 0_u64;
    loop {
        n = std::hint::black_box(n + 1);
    }
}

#[test]
fn processor_time_is_limited() {
    guarded(|| {
        let pool = Pool::builder().workers(1).cpu_time_limit(1).build().unwrap();
        let result = pool.apply(burn, ());
        assert!(matches!(&result, Err(TaskError::WorkerDied { cause: Cause::CpuTime, .. })), "{result:?}");
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn many_timeouts_at_once_wait_for_no_other_grace() {
    guarded(|| {
        let grace = Duration::from_secs(2);
        let pool = Pool::builder().workers(4).grace(grace).build().unwrap();
        let start = Instant::now();
        let results: Vec<_> = (0..4)
            .map(|_| pool.task(ignore_sigterm).timeout(Duration::from_millis(50)).apply_async(()))
            .collect();
        for result in results {
            assert!(matches!(result.get(), Err(TaskError::TimedOut)));
        }
        // One after the other they would take four graces; the watchdog's bound is far away, so this says only the order of it.
        assert!(start.elapsed() >= grace);
        assert!(start.elapsed() < grace * 4, "the graces were waited for one after the other");
    });
}

fn ignore_sigterm() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::default());
    hang();
}

/// Panics where it is decoded in the process that made the pool, not in a worker.
#[derive(serde::Serialize)]
struct Unreadable(u32);

impl<'de> serde::Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Unreadable, D::Error> {
        let number = u32::deserialize(deserializer)?;
        assert!(mp_pool::worker_index().is_some(), "unreadable here: {number}");
        Ok(Unreadable(number))
    }
}

fn unreadable(n: u32) -> Unreadable {
    Unreadable(n)
}

#[test]
fn a_result_whose_decoding_panics_calls_the_error_callback() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (sender, errors) = mpsc::channel();
        let (one, many) = (sender.clone(), sender);
        pool.apply_async_with(unreadable, (7,), |_| {}, move |error| one.send(error).unwrap());
        pool.task(unreadable).map_async_with(0..100, |_| {}, move |error| many.send(error).unwrap());
        let errors: Vec<TaskError> = errors.iter().collect();
        assert_eq!(errors.len(), 2);
        for error in errors {
            assert!(matches!(error, TaskError::Undecodable(_)), "{error:?}");
            assert!(error.to_string().contains("unreadable here"), "{error}");
        }
    });
}

#[test]
fn callbacks_of_a_map_come_once() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let (sender, receiver) = mpsc::channel();
        let (values, errors) = (sender.clone(), sender.clone());
        let call = move |squares: Vec<u64>| values.send(Ok(squares)).unwrap();
        pool.task(square)
            .map_async_with(0..10, call, move |error| errors.send(Err(error.to_string())).unwrap());
        assert_eq!(receiver.recv().unwrap().unwrap()[3], 9);
        let (values, errors) = (sender.clone(), sender);
        let call = move |_: Vec<()>| values.send(Ok(Vec::new())).unwrap();
        pool.task(fail_odd)
            .map_async_with(0..10, call, move |error| errors.send(Err(error.to_string())).unwrap());
        assert!(receiver.recv().unwrap().unwrap_err().contains("odd"));
        pool.close();
        pool.join().unwrap();
        assert!(receiver.recv().is_err(), "a callback came twice");
    });
}

fn fail_odd(n: u64) {
    assert!(n.is_multiple_of(2), "odd");
}
