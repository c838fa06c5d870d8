//! What a pool does with tasks that go well.

use mp_pool::{Pool, PoolError, TaskError};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn square(n: u64) -> u64 {
    n * n
}

fn own_pid() -> u32 {
    std::process::id()
}

fn add(a: String, b: u8) -> String {
    format!("{a}{b}")
}

fn sleep(milliseconds: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    std::process::id()
}

fn fail(text: String) -> Result<(), mp_pool::RemoteError> {
    text.parse::<i32>()?;
    Ok(())
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
        assert_eq!(pool.apply(add, ("x".to_owned(), 1)).unwrap(), "x1");
        assert_ne!(pool.apply(own_pid, ()).unwrap(), std::process::id());
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn no_workers_is_an_error() {
    assert!(matches!(Pool::new(0), Err(PoolError::NoWorkers)));
}

#[test]
fn thirty_two_tasks_run_in_at_most_sixteen_processes() {
    guarded(|| {
        let pool = Pool::new(16).unwrap();
        let results: Vec<_> = (0..32).map(|_| pool.apply_async(sleep, (20,))).collect();
        let pids: BTreeSet<u32> = results.into_iter().map(|result| result.get().unwrap()).collect();
        assert!(pids.len() <= 16 && pids.len() > 1, "{pids:?}");
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn join_of_an_open_pool_is_an_error_that_gives_it_back() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let error = pool.join().unwrap_err();
        assert!(error.to_string().contains("close"), "{error}");
        let pool = error.0;
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn close_runs_what_was_submitted_and_takes_no_more() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let results: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
        pool.close();
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Closed)));
        pool.join().unwrap();
        for (n, result) in (0..100_u64).zip(results) {
            assert_eq!(result.get().unwrap(), n * n);
        }
    });
}

#[test]
fn terminate_cancels_what_is_not_done() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let results: Vec<_> = (0..10).map(|_| pool.apply_async(sleep, (600_000,))).collect();
        pool.terminate();
        pool.join().unwrap();
        for result in results {
            assert!(matches!(result.get(), Err(TaskError::Cancelled)));
        }
    });
}

#[test]
fn a_dropped_pool_leaves_nothing() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let result = pool.apply_async(sleep, (600_000,));
        drop(pool);
        assert!(matches!(result.get(), Err(TaskError::Cancelled)));
    });
}

#[test]
fn map_keeps_the_order_and_gives_the_first_error() {
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let squares = pool.map(square, 0..1000).unwrap();
        assert!(squares.into_iter().eq((0..1000).map(|n| n * n)));
        assert_eq!(pool.map(square, []).unwrap(), []);
        let pairs = (0..9_u8).map(|n| ("p".to_owned(), n));
        assert_eq!(pool.starmap(add, pairs).unwrap()[8], "p8");
        assert!(pool.map(refuse_odd, 0..10).is_err());
        let results = pool.try_map(refuse_odd, 0..10);
        assert!(results.iter().enumerate().all(|(n, result)| result.is_ok() == (n % 2 == 0)));
    });
}

fn refuse_odd(n: u64) -> u64 {
    assert!(n.is_multiple_of(2), "odd");
    n
}

#[test]
fn imap_is_lazy_and_in_order() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let mut taken = 0;
        let endless = std::iter::from_fn(|| {
            taken += 1;
            Some(taken)
        });
        let first: Vec<u64> = pool.imap(square, endless).take(100).map(Result::unwrap).collect();
        assert!(first.iter().copied().eq((1..=100).map(|n: u64| n * n)));
        assert!(taken <= 100 + 2 * 4, "{taken} were taken for 100");
        taken = 0;
        let endless = std::iter::from_fn(|| {
            taken += 1;
            Some(taken)
        });
        let first: BTreeSet<u64> =
            pool.imap_unordered(square, endless).take(100).map(Result::unwrap).collect();
        assert!(first.len() == 100 && taken <= 100 + 2 * 4, "{taken} were taken for 100");
        let some: BTreeSet<u64> = pool.imap_unordered(square, 0..50).map(Result::unwrap).collect();
        assert_eq!(some, (0..50).map(|n| n * n).collect());
    });
}

#[test]
fn a_stream_in_chunks_is_whole_and_takes_no_more_than_its_chunks() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        for (items, chunk) in [(0, 7), (1, 7), (6, 7), (7, 7), (8, 7), (1000, 7), (1000, 100_000), (5000, 64)]
        {
            let squares: Vec<u64> =
                pool.task(square).chunk_size(chunk).imap(0..items).map(Result::unwrap).collect();
            assert_eq!(squares, (0..items).map(|n| n * n).collect::<Vec<_>>());
            let mut squares: Vec<u64> =
                pool.task(square).chunk_size(chunk).imap_unordered(0..items).map(Result::unwrap).collect();
            squares.sort_unstable();
            assert_eq!(squares, (0..items).map(|n| n * n).collect::<Vec<_>>());
        }
        // Lazy: two chunks for each worker.
        let taken = std::cell::Cell::new(0);
        let mut stream =
            pool.task(square).chunk_size(10).imap((0_u64..).inspect(|_| taken.set(taken.get() + 1)));
        assert_eq!(taken.get(), 0);
        assert_eq!(stream.next().unwrap().unwrap(), 0);
        assert!(taken.get() <= 50, "{} items taken", taken.get());
        drop(stream);
        // A failure is of its item alone, and what comes before a panic of the input is given.
        let failed = pool.task(refuse_odd).chunk_size(8).imap(0..40).filter(Result::is_err).count();
        assert_eq!(failed, 20);
        let input = (0..20_u64).inspect(|n| assert!(*n < 13, "the input panics"));
        let mut stream = pool.task(square).chunk_size(5).buffer(5).imap(input);
        let (mut given, mut panics) = (Vec::new(), 0);
        loop {
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.next())) {
                Ok(Some(result)) => given.push(result.unwrap()),
                Ok(None) => break,
                Err(_) => panics += 1,
            }
        }
        assert_eq!((given, panics), ((0..13).map(|n| n * n).collect::<Vec<u64>>(), 7));
        // What cannot be packed goes alone.
        let handles = (0..20).map(|_| mp_shm::Value::new(3_u32).unwrap());
        let values: Vec<u32> =
            pool.task(read_value).chunk_size(6).imap(handles).map(Result::unwrap).collect();
        assert_eq!(values, [3; 20]);
    });
}

fn read_value(value: mp_shm::Value<u32>) -> u32 {
    value.get()
}

#[test]
fn an_err_is_a_result_and_a_panic_an_error() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let error = pool.apply(fail, ("x".to_owned(),)).unwrap().unwrap_err();
        assert_eq!(error.kind(), "core::num::error::ParseIntError");
        match pool.apply(refuse_odd, (1,)) {
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(panic.message, "odd");
                assert!(panic.location.contains("pool.rs"), "{}", panic.location);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn callbacks_are_called_and_a_panicking_one_harms_nobody() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let (sender, receiver) = mpsc::channel();
        pool.apply_async_with(square, (2,), |_| panic!("in a callback"), |_| {});
        let told = sender.clone();
        pool.apply_async_with(square, (5,), move |value| told.send(value.to_string()).unwrap(), |_| {});
        pool.apply_async_with(refuse_odd, (1,), |_| {}, move |error| sender.send(error.to_string()).unwrap());
        let mut heard: Vec<String> = receiver.iter().take(2).collect();
        heard.sort();
        assert_eq!(heard[0], "25");
        assert!(heard[1].contains("odd"), "{heard:?}");
    });
}

#[test]
fn get_timeout_gives_the_handle_back_and_lasts() {
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let result = pool.apply_async(sleep, (300,));
        let before = Instant::now();
        let result = result.get_timeout(Duration::from_millis(50)).unwrap_err();
        assert!(before.elapsed() >= Duration::from_millis(50));
        assert_eq!((result.ready(), result.successful()), (false, None));
        result.wait();
        assert_eq!((result.ready(), result.successful()), (true, Some(true)));
        result.get().unwrap();
        let failed = pool.apply_async(refuse_odd, (1,));
        assert!(failed.wait_timeout(Duration::from_secs(600)));
        assert_eq!(failed.successful(), Some(false));
        assert!(failed.get_deadline(Instant::now()).unwrap().is_err());
    });
}

#[test]
fn large_arguments_and_results_cross() {
    fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let results: Vec<_> = (0..6).map(|_| pool.apply_async(reversed, (bytes.clone(),))).collect();
        for result in results {
            assert!(result.get().unwrap().iter().rev().eq(&bytes));
        }
    });
}

#[test]
fn an_initializer_runs_in_each_worker_and_a_failing_one_breaks_the_pool() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SET: AtomicU64 = AtomicU64::new(0);
    fn set(value: u64) {
        SET.store(value, Ordering::Relaxed);
    }
    fn read() -> u64 {
        SET.load(Ordering::Relaxed)
    }
    fn fails() {
        panic!("no good");
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).initializer(set, (7,)).build().unwrap();
        assert_eq!(pool.apply(read, ()).unwrap(), 7);
        drop(pool);
        let pool = Pool::builder().workers(1).initializer(fails, ()).build().unwrap();
        match pool.apply(read, ()) {
            Err(TaskError::Broken(why)) => assert!(why.contains("no good"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(pool.broken().is_some());
    });
}

#[test]
fn a_pool_is_used_from_several_threads_and_in_its_own_tasks() {
    fn nested(n: u64) -> u64 {
        let pool = Pool::new(2).unwrap();
        pool.map(square, 0..n).unwrap().into_iter().sum()
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        std::thread::scope(|scope| {
            for start in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in start..start + 50 {
                        assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
                    }
                    let squares = pool.map(square, start..start + 100).unwrap();
                    assert!(squares.into_iter().eq((start..start + 100).map(|n| n * n)));
                });
            }
        });
        assert_eq!(pool.apply(nested, (4,)).unwrap(), 14);
    });
}

#[test]
fn two_streams_and_a_map_run_side_by_side() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let one = pool.imap(square, 0..60);
        let two = pool.imap(add_one, 0..60);
        for (n, (square, next)) in one.zip(two).enumerate() {
            let n = u64::try_from(n).unwrap();
            assert_eq!((square.unwrap(), next.unwrap()), (n * n, n + 1));
            assert_eq!(pool.map(add_one, [n]).unwrap(), [n + 1]);
        }
    });
}

fn add_one(n: u64) -> u64 {
    n + 1
}

#[test]
fn an_idle_pool_makes_no_wake_ups() {
    // Of all threads of this process and of its workers, but the one that looks.
    fn switches() -> u64 {
        let me = rustix::thread::gettid().as_raw_nonzero().to_string();
        let mut processes = vec!["self".to_owned()];
        let children = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        processes.extend(children.flat_map(|pids| pids.split(' ').map(str::to_owned).collect::<Vec<_>>()));
        let mut total = 0;
        for process in processes {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for task in tasks.flatten().filter(|task| task.file_name().to_string_lossy() != *me) {
                let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                total += line.map_or(0, |count| count.trim().parse::<u64>().unwrap());
            }
        }
        total
    }
    guarded(|| {
        let pool = Pool::builder().workers(3).task_timeout(Duration::from_millis(20)).build().unwrap();
        assert_eq!(pool.map(square, 0..100).unwrap().len(), 100);
        // Falling asleep takes a moment; from then on nothing may happen.
        let mut before = switches();
        mp_test::until("nothing happens for half a second", || {
            std::thread::sleep(Duration::from_millis(500));
            let now = switches();
            std::mem::replace(&mut before, now) == now
        });
        assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
    });
}

#[test]
fn handles_travel_both_ways_and_ends_move() {
    fn answer(mut line: mp_pipe::Connection) -> mp_shm::Value<u32> {
        let number: u32 = line.recv().unwrap();
        let value = mp_shm::Value::new(number + 1).unwrap();
        line.send(number * 2).unwrap();
        value
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (mut here, there) = mp_pipe::pipe().unwrap();
        let result = pool.apply_async(answer, (there,));
        here.send(21_u32).unwrap();
        assert_eq!(here.recv::<u32>().unwrap(), 42);
        assert_eq!(result.get().unwrap().get(), 22);
        assert!(here.recv::<u32>().unwrap_err().is_disconnected());
    });
}

/// Cannot be encoded, decoded in the worker, or decoded in the parent, as it says.
#[derive(Debug, PartialEq)]
enum Awkward {
    Fine,
    NoEncoding,
    NoDecodingThere(u32),
    NoDecodingHere(u32),
    PanicHere(u32),
}

impl serde::Serialize for Awkward {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let me = std::process::id();
        match self {
            Awkward::Fine => (0, me).serialize(serializer),
            Awkward::NoEncoding => Err(serde::ser::Error::custom("no")),
            Awkward::NoDecodingThere(_) => (1, me).serialize(serializer),
            Awkward::NoDecodingHere(_) => (2, me).serialize(serializer),
            Awkward::PanicHere(_) => (3, me).serialize(serializer),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Awkward {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Awkward, D::Error> {
        let (kind, encoder) = <(i32, u32)>::deserialize(deserializer)?;
        match kind {
            0 => Ok(Awkward::Fine),
            1 => Err(serde::de::Error::custom("not here")),
            _ if encoder == std::process::id() => unreachable!("it crosses"),
            2 => Err(serde::de::Error::custom("not here")),
            _ => panic!("in a decoder"),
        }
    }
}

#[test]
fn values_that_do_not_cross_harm_nobody_else() {
    fn take(value: Awkward) -> bool {
        value == Awkward::Fine
    }
    fn make(kind: u32) -> Awkward {
        match kind {
            0 => Awkward::Fine,
            1 => Awkward::NoEncoding,
            2 => Awkward::NoDecodingHere(0),
            _ => Awkward::PanicHere(0),
        }
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        assert!(matches!(pool.apply(take, (Awkward::NoEncoding,)), Err(TaskError::Encode(_))));
        assert!(matches!(pool.apply(take, (Awkward::NoDecodingThere(0),)), Err(TaskError::Arguments(_))));
        assert!(matches!(pool.apply(take, (Awkward::PanicHere(0),)), Err(TaskError::Panicked(_))));
        assert!(matches!(pool.apply(make, (1,)), Err(TaskError::Unencodable(_))));
        assert!(matches!(pool.apply(make, (2,)), Err(TaskError::Undecodable(_))));
        let unwound = std::panic::catch_unwind(|| pool.apply(make, (3,)));
        assert!(unwound.is_err(), "a decoder that panics does so where the result is awaited");
        assert!(pool.apply(take, (Awkward::Fine,)).unwrap());
        assert_eq!(pool.apply(make, (0,)).unwrap(), Awkward::Fine);
    });
}

#[test]
fn an_input_that_panics_or_a_stream_that_is_left_cancels_the_rest() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let broken = (0..).map(|n: u64| if n == 20 { panic!("input") } else { n });
        let mut seen = 0;
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.imap(square, broken).for_each(|result| seen += u64::from(result.is_ok()));
        }));
        assert!(unwound.is_err() && seen > 0);
        let mut stream = pool.imap_unordered(sleep, std::iter::repeat(1));
        assert!(stream.next().unwrap().is_ok());
        drop(stream);
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

#[test]
fn the_first_error_of_a_map_cancels_what_has_not_started() {
    fn count((started, n): (mp_shm::Value<u32>, u32)) {
        started.fetch_add(1);
        assert!(n > 0, "the first fails");
        std::thread::sleep(Duration::from_millis(20));
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let started = mp_shm::Value::new(0_u32).unwrap();
        let items = (0..1000).map(|n| (started.clone(), n));
        assert!(matches!(pool.map(count, items), Err(TaskError::Panicked(_))));
        pool.close();
        pool.join().unwrap();
        assert!(started.get() < 1000, "all were run");
    });
}

#[test]
fn dropping_a_result_lets_the_task_run() {
    fn set(value: mp_shm::Value<u32>) {
        value.set(7);
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let value = mp_shm::Value::new(0_u32).unwrap();
        drop(pool.apply_async(set, (value.clone(),)));
        pool.close();
        pool.join().unwrap();
        assert_eq!(value.get(), 7);
    });
}

#[test]
fn a_pool_dropped_in_a_callback_or_an_unwinding_thread_ends() {
    guarded(|| {
        let pool = std::sync::Arc::new(Pool::new(1).unwrap());
        let (sender, receiver) = mpsc::channel();
        let inside = std::sync::Arc::clone(&pool);
        let callback = move |_| {
            // The last one: the pool ends here, on its own thread.
            receiver.recv().unwrap();
            drop(inside);
        };
        pool.apply_async_with(square, (1,), callback, |_| {});
        drop(pool);
        sender.send(()).unwrap();
        let unwound = std::thread::spawn(|| {
            let pool = Pool::new(1).unwrap();
            let _busy = pool.apply_async(sleep, (600_000,));
            panic!("with a pool");
        });
        assert!(unwound.join().is_err());
    });
}

/// Goes on once `others` have been counted.
fn wait_for((count, others): (mp_shm::Value<u32>, u32)) {
    while count.get() < others {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn tasks_behind_a_long_one_are_taken_over_by_an_idle_worker() {
    fn one((count, _): (mp_shm::Value<u32>, u32)) {
        count.fetch_add(1);
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let count = mp_shm::Value::new(0_u32).unwrap();
        // Some of the small ones stand behind the long one, which ends after all of them.
        let long = pool.apply_async(wait_for, ((count.clone(), 40),));
        let small: Vec<_> = (0..40).map(|_| pool.apply_async(one, ((count.clone(), 0),))).collect();
        small.into_iter().for_each(|result| result.get().unwrap());
        long.get().unwrap();
    });
}

#[test]
fn items_behind_a_long_one_in_its_chunk_are_taken_over() {
    fn item((count, others): (mp_shm::Value<u32>, u32)) {
        if others > 0 {
            wait_for((count, others));
        } else {
            count.fetch_add(1);
        }
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let count = mp_shm::Value::new(0_u32).unwrap();
        let items = (0..200).map(|n| (count.clone(), if n == 0 { 199 } else { 0 }));
        assert_eq!(pool.map(item, items).unwrap().len(), 200);
    });
}
