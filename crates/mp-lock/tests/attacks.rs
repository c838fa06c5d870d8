//! Ends in the middle, standing still, crowds, and too little of everything.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, start, stay};
use mp_lock::{
    AcquireError, AcquireTimeoutError, Barrier, BarrierError, BoundedSemaphore, Condition, Event, Lock,
    LockError, Mutex, Once, RLock, RwLock, Semaphore, TryAcquireError,
};
use mp_test::{guarded, role, say};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use std::io;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// By `exit`, by `exec` of another program, by a return from `main` with the guard forgotten, by `abort`.
#[test]
fn whoever_ends_or_becomes_another_program_while_holding_is_news() {
    let test = "whoever_ends_or_becomes_another_program_while_holding_is_news";
    if let Some(role) = role() {
        let (lock, mutex, rwlock, rlock, semaphore): (Lock, Mutex<u8>, RwLock<u8>, RLock, Semaphore) =
            given();
        let held = (lock.acquire().unwrap(), mutex.acquire().unwrap(), rwlock.write().unwrap());
        let held = (held, rlock.acquire().unwrap());
        let permit = semaphore.acquire();
        match role.as_str() {
            #[expect(clippy::disallowed_methods, reason = "this is about it")]
            "exit" => std::process::exit(0),
            "exec" => panic!("{}", std::process::Command::new("sleep").arg("1000").exec()),
            "return" => return std::mem::forget((held, permit)),
            _ => std::process::abort(),
        }
    }
    guarded(|| {
        for how in ["exit", "exec", "return", "abort"] {
            let lock = Lock::new().unwrap();
            let (mutex, rwlock) = (Mutex::new(1_u8).unwrap(), RwLock::new(1_u8).unwrap());
            let (rlock, semaphore) = (RLock::new().unwrap(), Semaphore::new(1).unwrap());
            let all = (lock.clone(), mutex.clone(), rwlock.clone(), rlock.clone(), semaphore.clone());
            let mut ending = start(test, how, &all);
            drop(all);
            if how == "exec" {
                // The new program is alive, and holds nothing. Until then it may hold all, or nothing yet.
                let name = format!("/proc/{}/comm", ending.pid());
                mp_test::until("it is another program", || {
                    std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep")
                });
            } else {
                ending.wait();
            }
            // Whoever only tries is told, too, and whoever does not wait for as long as the others look.
            assert!(matches!(lock.try_acquire(), Err(TryAcquireError::OwnerDied(_))), "{how}");
            let tried = mutex.acquire_timeout(Duration::ZERO);
            assert!(matches!(tried, Err(AcquireTimeoutError::OwnerDied(_))), "{how}");
            assert!(matches!(rwlock.try_write(), Err(TryAcquireError::OwnerDied(_))), "{how}");
            assert!(matches!(rlock.acquire(), Err(AcquireError::OwnerDied(_))), "{how}");
            if how == "exec" {
                // Permits belong to the process, which lives on.
                assert!(semaphore.try_acquire().is_none());
                ending.kill();
            }
            drop(semaphore.acquire());
        }
    });
}

/// Who stands still lives: others wait as long as they like to, and get it when he goes on.
#[test]
fn a_stopped_holder_delays_others_up_to_their_time_outs() {
    let test = "a_stopped_holder_delays_others_up_to_their_time_outs";
    if role().is_some() {
        let (lock, rwlock, semaphore): (Lock, RwLock<u8>, Semaphore) = given();
        let held = (lock.acquire().unwrap(), rwlock.read().unwrap(), semaphore.acquire());
        say("holding");
        let _ = mp_test::hear();
        drop(held);
        stay();
    }
    guarded(|| {
        let (lock, rwlock) = (Lock::new().unwrap(), RwLock::new(1_u8).unwrap());
        let semaphore = Semaphore::new(1).unwrap();
        let mut holder = start(test, "holder", &(lock.clone(), rwlock.clone(), semaphore.clone()));
        holder.expect("holding");
        let pid = Pid::from_raw(i32::try_from(holder.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let stat = format!("/proc/{}/stat", holder.pid());
        mp_test::until("the holder has stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
        holder.tell("give it back");
        let wait = Duration::from_millis(250);
        assert!(matches!(lock.acquire_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
        assert!(matches!(rwlock.write_timeout(wait), Err(AcquireTimeoutError::TimedOut)));
        assert!(matches!(semaphore.acquire_timeout(wait), Err(LockError::TimedOut)));
        kill_process(pid, Signal::CONT).unwrap();
        drop((lock.acquire().unwrap(), rwlock.write().unwrap(), semaphore.acquire()));
        holder.kill();
    });
}

/// Lets `count` threads wait in `wait`, calls `go` when all have come, and sees all of them through.
fn crowd(count: usize, wait: impl Fn() + Sync, go: impl FnOnce()) {
    let (come, through) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..count {
            let one = thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, || {
                come.fetch_add(1, SeqCst);
                wait();
                through.fetch_add(1, SeqCst);
            });
            one.unwrap();
        }
        mp_test::until("all have come", || come.load(SeqCst) == count);
        go();
    });
    assert_eq!(through.load(SeqCst), count);
}

#[test]
fn a_thousand_waiters_all_get_through() {
    const MANY: usize = 1000;
    guarded(|| {
        let lock = Lock::new().unwrap();
        let held = lock.acquire().unwrap();
        crowd(MANY, || drop(lock.acquire().unwrap()), || drop(held));
        let (rwlock, semaphore) = (RwLock::new(0_u32).unwrap(), Semaphore::new(0).unwrap());
        let held = rwlock.write().unwrap();
        crowd(MANY, || drop(rwlock.read().unwrap()), || drop(held));
        let held = rwlock.read().unwrap();
        crowd(MANY, || rwlock.write().unwrap().with(|count| *count += 1), || drop(held));
        assert_eq!(rwlock.read().unwrap().get(), 1000);
        crowd(MANY, || drop(semaphore.acquire()), || semaphore.release(1).unwrap());
        let event = Event::new().unwrap();
        crowd(MANY, || event.wait(), || event.set());
        let barrier = Barrier::new(MANY + 1).unwrap();
        crowd(MANY, || assert!(barrier.wait().is_ok()), || assert!(barrier.wait().is_ok()));
        let once = Once::new().unwrap();
        crowd(MANY, || once.call_once(|| {}).unwrap(), || {});
    });
}

/// One of a thousand, then two, then the rest; and one more than there is room for is an error.
#[test]
fn a_notification_marks_exactly_so_many_of_a_thousand() {
    const MANY: usize = mp_lock::MAX_WAITERS;
    guarded(|| {
        let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
        let waiting =
            |count: usize| format!("{condition:?}") == format!("Condition {{ waiting: {count}, .. }}");
        let wait = || condition.wait(&mut lock.acquire().unwrap()).unwrap();
        crowd(MANY, wait, || {
            mp_test::until("all wait", || waiting(MANY));
            let mut guard = lock.acquire().unwrap();
            assert_eq!(condition.wait_timeout(&mut guard, Duration::ZERO), Err(LockError::TooMany));
            // Whoever is woken needs the lock, and stays in the table until he has it.
            condition.notify_one();
            drop(guard);
            mp_test::until("one has gone", || waiting(MANY - 1));
            let guard = lock.acquire().unwrap();
            condition.notify(2);
            drop(guard);
            mp_test::until("two have gone", || waiting(MANY - 3));
            // All that could still come of those three has come when a lock was given to everybody who wanted one.
            for _ in 0..100 {
                drop(lock.acquire().unwrap());
                assert!(waiting(MANY - 3));
            }
            condition.notify_all();
        });
    });
}

/// Readers come without a pause, two always overlapping: a writer gets in all the same.
#[test]
fn readers_that_never_pause_keep_no_writer_out() {
    guarded(|| {
        let (rwlock, done) = (RwLock::new(0_u8).unwrap(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        let _share = rwlock.read().unwrap();
                        thread::yield_now();
                    }
                });
            }
            for _ in 0..20 {
                rwlock.write().unwrap().with(|value| *value += 1);
            }
            done.store(true, SeqCst);
        });
        assert_eq!(rwlock.read().unwrap().get(), 20);
    });
}

fn every_kind() -> [io::Result<()>; 11] {
    [
        Lock::new().map(drop),
        RLock::new().map(drop),
        Mutex::new(1_u8).map(drop),
        Mutex::<[u64]>::zeroed(10).map(drop),
        RwLock::new(1_u8).map(drop),
        Semaphore::new(1).map(drop),
        BoundedSemaphore::new(1).map(drop),
        Condition::new().map(drop),
        Event::new().map(drop),
        Barrier::new(2).map(drop),
        Once::new().map(drop),
    ]
}

/// Making one when there is no descriptor, or no address space, is an error, and those that were made before go on.
#[test]
fn too_little_of_anything_is_an_error() {
    let test = "too_little_of_anything_is_an_error";
    if let Some(role) = role() {
        let (lock, event) = (Lock::new().unwrap(), Event::new().unwrap());
        drop((lock.acquire().unwrap(), every_kind()));
        let limit = |resource, most| {
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
        };
        let mut kept = Vec::new();
        if role == "descriptors" {
            limit(Resource::Nofile, 20);
            while let Ok(file) = std::fs::File::open("/dev/null") {
                kept.push(file);
            }
            assert!(every_kind().iter().all(Result::is_err));
        } else {
            assert!(Mutex::<[u64]>::zeroed(usize::MAX / 4).is_err());
            limit(Resource::As, 1 << 20);
            assert!(every_kind().iter().all(Result::is_err));
        }
        drop(lock.acquire().unwrap());
        event.set();
        event.wait();
        kept.clear();
        assert!(role != "descriptors" || every_kind().iter().all(Result::is_ok));
        say("went on");
        return;
    }
    guarded(|| {
        for what in ["descriptors", "addresses"] {
            let mut limited = start(test, what, &0_u8);
            limited.expect("went on");
            assert!(limited.wait().success());
        }
    });
}

/// A time-out of nothing tries once, and gets what is free.
#[test]
fn a_time_out_of_zero_tries_once() {
    guarded(|| {
        const NOW: Duration = Duration::ZERO;
        let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
        let (mutex, rwlock) = (Mutex::new(1_u8).unwrap(), RwLock::new(1_u8).unwrap());
        let (semaphore, event) = (Semaphore::new(1).unwrap(), Event::new().unwrap());
        let barrier = Barrier::new(2).unwrap();
        let mut held = None;
        for free in [true, false] {
            thread::scope(|scope| {
                scope.spawn(|| {
                    assert_eq!(lock.acquire_timeout(NOW).is_ok(), free);
                    assert_eq!(rlock.acquire_timeout(NOW).is_ok(), free);
                    assert_eq!(mutex.acquire_timeout(NOW).is_ok(), free);
                    assert_eq!(rwlock.read_timeout(NOW).is_ok(), free);
                    assert_eq!(rwlock.write_timeout(NOW).is_ok(), free);
                    assert_eq!(semaphore.acquire_timeout(NOW).is_ok(), free);
                    assert_eq!(event.wait_timeout(NOW), !free);
                    assert!(free || matches!(lock.try_acquire(), Err(TryAcquireError::Held)));
                });
            });
            assert_eq!(barrier.wait_timeout(NOW).map(drop), Err(BarrierError::TimedOut));
            barrier.reset();
            if free {
                let locks = (lock.acquire().unwrap(), rlock.acquire().unwrap(), mutex.acquire().unwrap());
                held = Some((locks, rwlock.write().unwrap(), semaphore.acquire()));
                event.set();
            }
        }
        drop(held);
    });
}
