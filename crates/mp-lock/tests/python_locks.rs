//! What CPython's tests of locks promise, under their names, each between processes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{asleep, given, say_thread, start};
use mp_test::{Role, guarded, role, say};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Starts `count` processes in the role `party` of `test`.
fn parties<T: Serialize + 'static>(test: &str, count: usize, value: &T) -> Vec<Role> {
    (0..count).map(|_| start(test, "party", value)).collect()
}

/// Waits for them; what each said last.
fn said(roles: Vec<Role>) -> Vec<String> {
    roles
        .into_iter()
        .map(|mut role| {
            let word = role.word().expect("a party says how it ended");
            assert!(role.wait().success());
            word
        })
        .collect()
}

mod lock {
    use super::*;
    use mp_lock::{AcquireError, Lock, RLock, Semaphore, TryAcquireError};

    /// Python's lock may be released by anybody, and once too often is an error: that is a bounded semaphore of one.
    #[test]
    fn test_lock() {
        guarded(|| {
            let lock = Lock::new().unwrap();
            let guard = lock.acquire().unwrap();
            assert!(lock.is_locked() && matches!(lock.try_acquire(), Err(TryAcquireError::AlreadyHeld)));
            guard.release();
            assert!(!lock.is_locked());
            let anybodys = mp_lock::BoundedSemaphore::new(1).unwrap();
            anybodys.acquire().forget();
            assert!(anybodys.try_acquire().is_none());
            std::thread::scope(|scope| _ = scope.spawn(|| anybodys.release(1).unwrap()));
            assert!(anybodys.release(1).is_err());
        });
    }

    #[test]
    fn test_lock_locked_2processes() {
        if role().is_some() {
            let lock: Lock = given();
            let guard = lock.acquire().unwrap();
            say("held");
            let _ = mp_test::hear();
            guard.release();
            return;
        }
        guarded(|| {
            let lock = Lock::new().unwrap();
            let mut holder = start("lock::test_lock_locked_2processes", "holder", &lock);
            holder.expect("held");
            assert!(lock.is_locked());
            assert!(holder.wait().success() && !lock.is_locked());
        });
    }

    #[test]
    fn test_rlock() {
        guarded(|| {
            let lock = RLock::new().unwrap();
            let mut guards = vec![lock.acquire().unwrap(), lock.acquire().unwrap(), lock.acquire().unwrap()];
            for depth in (1..=3).rev() {
                assert_eq!(guards[0].depth(), depth);
                assert!(lock.is_locked());
                guards.pop();
            }
            // A fourth release cannot be written: there is no fourth guard.
            assert!(!lock.is_locked());
        });
    }

    #[test]
    fn test_rlock_locked_2processes() {
        if role().is_some() {
            let lock: RLock = given();
            let _guards = (lock.acquire().unwrap(), lock.acquire().unwrap());
            say("held");
            let _ = mp_test::hear();
            return;
        }
        guarded(|| {
            let lock = RLock::new().unwrap();
            let mut holder = start("lock::test_rlock_locked_2processes", "holder", &lock);
            holder.expect("held");
            assert!(lock.is_locked() && lock.try_acquire().is_err());
            assert!(holder.wait().success() && !lock.is_locked());
        });
    }

    #[test]
    fn test_lock_context() {
        guarded(|| {
            let lock = Lock::new().unwrap();
            {
                let _guard = lock.acquire().unwrap();
                assert!(lock.is_locked());
            }
            assert!(!lock.is_locked());
        });
    }

    #[test]
    fn test_rlock_context() {
        guarded(|| {
            let lock = RLock::new().unwrap();
            {
                let _guard = lock.acquire().unwrap();
                let _again = lock.acquire().unwrap();
                assert!(lock.is_locked());
            }
            assert!(!lock.is_locked());
        });
    }

    #[test]
    fn test_repr_lock() {
        if role().is_some() {
            let lock: Lock = given();
            std::mem::forget(lock.acquire().unwrap());
            say("held");
            let _ = mp_test::hear();
            return;
        }
        guarded(|| {
            let lock = Lock::new().unwrap();
            assert!(format!("{lock:?}").contains("holder: None"));
            let guard = lock.acquire().unwrap();
            let me = format!("thread {} of this process", rustix::thread::gettid().as_raw_nonzero());
            assert!(format!("{lock:?}").contains(&me));
            drop(guard);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _guard = lock.acquire().unwrap();
                    assert!(
                        format!("{lock:?}").contains("of this process") && !format!("{lock:?}").contains(&me)
                    );
                });
            });
            let mut holder = start("lock::test_repr_lock", "holder", &lock);
            holder.expect("held");
            assert!(format!("{lock:?}").contains(&format!("of process {}", holder.pid())));
            assert!(holder.wait().success());
            assert!(matches!(lock.acquire(), Err(AcquireError::OwnerDied(_))));
            assert!(format!("{lock:?}").contains("poisoned: true"));
        });
    }

    #[test]
    fn test_repr_rlock() {
        if role().is_some() {
            let lock: RLock = given();
            let _guards = (lock.acquire().unwrap(), lock.acquire().unwrap());
            say("held");
            let _ = mp_test::hear();
            return;
        }
        guarded(|| {
            let lock = RLock::new().unwrap();
            assert!(format!("{lock:?}").contains("holder: None, depth: 0"));
            let me = format!("thread {} of this process", rustix::thread::gettid().as_raw_nonzero());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _guards = (lock.acquire().unwrap(), lock.acquire().unwrap());
                    let shown = format!("{lock:?}");
                    assert!(shown.contains("of this process), depth: 2") && !shown.contains(&me), "{shown}");
                });
            });
            let mut holder = start("lock::test_repr_rlock", "holder", &lock);
            holder.expect("held");
            let others = format!("of process {}), depth: 2", holder.pid());
            assert!(format!("{lock:?}").contains(&others), "{lock:?}");
            assert!(holder.wait().success());
            let _guards = (lock.acquire().unwrap(), lock.acquire().unwrap(), lock.acquire().unwrap());
            assert!(format!("{lock:?}").contains(&format!("{me}), depth: 3")), "{lock:?}");
            let seats = Semaphore::new(2).unwrap();
            let _permit = seats.acquire();
            assert!(format!("{seats:?}").contains("holders: [this process]"), "{seats:?}");
        });
    }
}

mod semaphore {
    use super::*;
    use mp_lock::{BoundedSemaphore, LockError, Semaphore};

    #[test]
    fn test_semaphore() {
        guarded(|| {
            let semaphore = Semaphore::new(2).unwrap();
            for left in [1, 0] {
                semaphore.acquire().forget();
                assert_eq!(semaphore.available_permits(), left);
            }
            assert!(semaphore.try_acquire().is_none());
            for now in 1..=4 {
                semaphore.release(1).unwrap();
                assert_eq!(semaphore.available_permits(), now);
            }
        });
    }

    #[test]
    fn test_bounded_semaphore() {
        guarded(|| {
            let semaphore = BoundedSemaphore::new(2).unwrap();
            semaphore.acquire().forget();
            semaphore.acquire().forget();
            assert!(semaphore.try_acquire().is_none());
            semaphore.release(2).unwrap();
            assert!(semaphore.release(1).is_err() && semaphore.available_permits() == 2);
        });
    }

    #[test]
    fn test_timeout() {
        guarded(|| {
            let semaphore = Semaphore::new(0).unwrap();
            assert!(semaphore.try_acquire().is_none());
            for millis in [0, 1, 600] {
                let (start, wait) = (Instant::now(), Duration::from_millis(millis));
                assert_eq!(semaphore.acquire_timeout(wait).map(drop), Err(LockError::TimedOut));
                assert!(start.elapsed() >= wait);
            }
            semaphore.release(1).unwrap();
            assert!(semaphore.acquire_timeout(Duration::from_secs(60)).is_ok());
        });
    }
}

mod condition {
    use super::*;
    use mp_lock::{Condition, Mutex, RLock};

    /// The condition, its lock, and how many sleepers have woken.
    type Shared = (Condition, Mutex<u32>);

    fn shared() -> Shared {
        (Condition::new().unwrap(), Mutex::new(0).unwrap())
    }

    /// The role of a sleeper: says which thread sleeps, and how it ended.
    fn sleep(timeout: Duration) {
        let (condition, woken): Shared = given();
        let mut guard = woken.acquire().unwrap();
        say_thread();
        let notified = condition.wait_timeout(&mut guard, timeout).unwrap();
        guard.with(|woken| *woken += 1);
        say(if notified { "notified" } else { "timed out" });
    }

    fn sleepers(test: &str, count: usize, shared: &Shared) -> Vec<Role> {
        let mut roles = parties(test, count, shared);
        roles.iter_mut().for_each(asleep);
        roles
    }

    /// Waits until so many have woken; then, that no more do.
    fn woken(shared: &Shared, count: u32) {
        mp_test::until("they have woken", || shared.1.acquire().unwrap().get() >= count);
        assert_eq!(shared.1.acquire().unwrap().get(), count);
    }

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn test_notify() {
        if role().is_some() {
            return sleep(LONG);
        }
        guarded(|| {
            let shared = shared();
            let roles = sleepers("condition::test_notify", 1, &shared);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut guard = shared.1.acquire().unwrap();
                    assert!(shared.0.wait_timeout(&mut guard, LONG).unwrap());
                    guard.with(|woken| *woken += 1);
                });
                mp_test::until("both wait", || format!("{:?}", shared.0).contains("waiting: 2"));
                woken(&shared, 0);
                for count in 1..=2 {
                    shared.0.notify_one();
                    woken(&shared, count);
                }
            });
            assert_eq!(said(roles), ["notified"]);
            assert!(format!("{:?}", shared.0).contains("waiting: 0"));
        });
    }

    #[test]
    fn test_notify_all() {
        match role().as_deref() {
            Some("party") => return sleep(LONG),
            Some(_) => return sleep(Duration::from_millis(100)),
            None => {}
        }
        guarded(|| {
            let (test, shared) = ("condition::test_notify_all", shared());
            let impatient: Vec<_> = (0..6).map(|_| start(test, "impatient", &shared)).collect();
            let ends = |mut role: Role| {
                role.word().unwrap();
                role.expect("timed out");
                assert!(role.wait().success());
            };
            impatient.into_iter().for_each(ends);
            let roles = sleepers(test, 6, &shared);
            shared.0.notify_all();
            assert!(said(roles).iter().all(|word| word == "notified"));
            woken(&shared, 12);
            assert!(format!("{:?}", shared.0).contains("waiting: 0"));
        });
    }

    #[test]
    fn test_notify_n() {
        if role().is_some() {
            return sleep(LONG);
        }
        guarded(|| {
            let shared = shared();
            let roles = sleepers("condition::test_notify_n", 6, &shared);
            woken(&shared, 0);
            shared.0.notify(2);
            woken(&shared, 2);
            shared.0.notify(4);
            woken(&shared, 6);
            shared.0.notify(3);
            woken(&shared, 6);
            assert!(said(roles).iter().all(|word| word == "notified"));
        });
    }

    #[test]
    fn test_timeout() {
        guarded(|| {
            let (condition, lock) = shared();
            let (start, wait) = (Instant::now(), Duration::from_millis(300));
            assert_eq!(condition.wait_timeout(&mut lock.acquire().unwrap(), wait), Ok(false));
            assert!(start.elapsed() >= wait);
        });
    }

    #[test]
    fn test_waitfor() {
        if role().is_some() {
            let (condition, state): Shared = given();
            let mut guard = state.acquire().unwrap();
            guard.set(0);
            condition.notify_all();
            assert_eq!(condition.wait_for(&mut guard, LONG, |state| state.get() == 4), Ok(true));
            say("four");
            return;
        }
        guarded(|| {
            let shared = (Condition::new().unwrap(), Mutex::new(9).unwrap());
            let mut other = start("condition::test_waitfor", "other", &shared);
            let mut guard = shared.1.acquire().unwrap();
            shared.0.wait_until(&mut guard, |state| state.get() == 0).unwrap();
            drop(guard);
            for _ in 0..4 {
                shared.1.acquire().unwrap().with(|state| *state += 1);
                shared.0.notify_one();
            }
            other.expect("four");
            assert!(other.wait().success());
        });
    }

    #[test]
    fn test_waitfor_timeout() {
        guarded(|| {
            let (condition, state) = shared();
            let (start, wait) = (Instant::now(), Duration::from_millis(100));
            assert_eq!(
                condition.wait_for(&mut state.acquire().unwrap(), wait, |state| state.get() == 4),
                Ok(false)
            );
            assert!(start.elapsed() >= wait);
        });
    }

    /// Python's default lock is an `RLock`, given back whole. An interruption by a signal ends no wait here: `tests/waits.rs`.
    #[test]
    fn test_wait_result() {
        guarded(|| {
            let (condition, lock) = (Condition::new().unwrap(), RLock::new().unwrap());
            let outer = lock.acquire().unwrap();
            let mut guard = lock.acquire().unwrap();
            assert_eq!(condition.wait_timeout(&mut guard, Duration::ZERO), Ok(false));
            assert_eq!(condition.wait_timeout(&mut guard, Duration::from_millis(100)), Ok(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // Only once the waiter has given back both.
                    let _guard = lock.acquire().unwrap();
                    condition.notify_one();
                });
                assert_eq!(condition.wait_timeout(&mut guard, LONG), Ok(true));
            });
            assert_eq!((guard.depth(), outer.depth()), (2, 2));
            drop(guard);
            assert!(lock.is_locked());
            drop(outer);
            assert!(!lock.is_locked());
        });
    }
}

mod event {
    use super::*;
    use mp_lock::Event;

    #[test]
    fn test_event() {
        if role().is_some() {
            given::<Event>().set();
            return;
        }
        guarded(|| {
            let event = Event::new().unwrap();
            assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
            let (begin, wait) = (Instant::now(), Duration::from_millis(100));
            assert!(!event.wait_timeout(wait) && begin.elapsed() >= wait);
            event.set();
            assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
            event.wait();
            event.clear();
            assert!(!event.is_set());
            let mut setter = start("event::test_event", "setter", &event);
            event.wait();
            assert!(setter.wait().success());
        });
    }
}

mod barrier {
    use super::*;
    use mp_lock::{Barrier, BarrierError, Mutex};

    const PARTIES: usize = 5;
    /// How many have begun, and ended, each step.
    type Shared = (Barrier, Mutex<[u32; 2]>);

    fn shared() -> Shared {
        (Barrier::new(PARTIES).unwrap(), Mutex::new([0; 2]).unwrap())
    }

    fn passes(count: usize) {
        let (barrier, steps): Shared = given();
        for pass in 1..=count {
            for step in 0..2 {
                steps.acquire().unwrap().with(|steps| steps[step] += 1);
                barrier.wait().unwrap();
                let seen = usize::try_from(steps.acquire().unwrap().get()[step]).unwrap();
                assert_eq!(seen, pass * PARTIES, "someone passed before all had come");
            }
        }
        assert!(!barrier.is_broken());
        say("passed");
    }

    fn lockstep(test: &str) {
        guarded(|| {
            let shared = shared();
            let roles = parties(test, PARTIES, &shared);
            assert!(said(roles).iter().all(|word| word == "passed"));
            assert_eq!((shared.0.waiting(), shared.0.is_broken()), (0, false));
        });
    }

    /// What one party says of its wait.
    fn word(outcome: Result<usize, BarrierError>) -> String {
        match outcome {
            Ok(index) => index.to_string(),
            Err(BarrierError::Broken) => "broken".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn test_barrier() {
        if role().is_some() {
            return passes(1);
        }
        lockstep("barrier::test_barrier");
    }

    #[test]
    fn test_barrier_10() {
        if role().is_some() {
            return passes(10);
        }
        lockstep("barrier::test_barrier_10");
    }

    #[test]
    fn test_wait_return() {
        if role().is_some() {
            return say(&word(given::<Barrier>().wait()));
        }
        guarded(|| {
            let barrier = Barrier::new(PARTIES).unwrap();
            let mut indices = said(parties("barrier::test_wait_return", PARTIES, &barrier));
            indices.sort();
            assert_eq!(indices, ["0", "1", "2", "3", "4"]);
        });
    }

    #[test]
    fn test_action() {
        if role().is_some() {
            let (barrier, count): Shared = given();
            for pass in 1..=2 {
                barrier.wait_with(|| count.acquire().unwrap().with(|count| count[0] += 1)).unwrap();
                assert_eq!(count.acquire().unwrap().get()[0], pass);
                // So that nobody begins the next turn while another looks.
                barrier.wait().unwrap();
            }
            return say("passed");
        }
        guarded(|| {
            let shared = shared();
            assert_eq!(said(parties("barrier::test_action", PARTIES, &shared)), ["passed"; PARTIES]);
            assert_eq!(shared.1.acquire().unwrap().get()[0], 2);
        });
    }

    #[test]
    fn test_abort() {
        if role().is_some() {
            return say(&word(given::<Barrier>().wait()));
        }
        guarded(|| {
            let barrier = Barrier::new(PARTIES).unwrap();
            let roles = parties("barrier::test_abort", PARTIES - 1, &barrier);
            mp_test::until("they wait", || barrier.waiting() == PARTIES - 1);
            barrier.abort();
            assert_eq!(said(roles), ["broken"; PARTIES - 1]);
            assert!(barrier.is_broken() && barrier.wait() == Err(BarrierError::Broken));
        });
    }

    #[test]
    fn test_reset() {
        if role().is_some() {
            let barrier: Barrier = given();
            say(&word(barrier.wait()));
            barrier.wait().unwrap();
            return;
        }
        guarded(|| {
            let barrier = Barrier::new(PARTIES).unwrap();
            let mut roles = parties("barrier::test_reset", PARTIES - 1, &barrier);
            mp_test::until("they wait", || barrier.waiting() == PARTIES - 1);
            barrier.reset();
            roles.iter_mut().for_each(|role| role.expect("broken"));
            assert!(!barrier.is_broken());
            barrier.wait().unwrap();
            assert!(roles.iter_mut().all(|role| role.wait().success()));
        });
    }

    #[test]
    fn test_abort_and_reset() {
        if role().is_some() {
            let barrier: Barrier = given();
            say(&word(barrier.wait()));
            let _ = mp_test::hear();
            say(&word(barrier.wait().map(|_| 0)));
            return;
        }
        guarded(|| {
            let barrier = Barrier::new(PARTIES).unwrap();
            let mut roles = parties("barrier::test_abort_and_reset", PARTIES - 1, &barrier);
            mp_test::until("they wait", || barrier.waiting() == PARTIES - 1);
            barrier.abort();
            roles.iter_mut().for_each(|role| role.expect("broken"));
            barrier.reset();
            roles.iter_mut().for_each(|role| role.tell("again"));
            assert!(barrier.wait().is_ok());
            assert_eq!(said(roles), ["0"; PARTIES - 1]);
        });
    }

    #[test]
    fn test_timeout() {
        if role().is_some() {
            let barrier: Barrier = given();
            let outcome = barrier.wait_timeout(Duration::from_millis(500));
            assert!(matches!(outcome, Err(BarrierError::Broken | BarrierError::TimedOut)));
            return say("broken");
        }
        guarded(|| {
            let barrier = Barrier::new(PARTIES).unwrap();
            let roles = parties("barrier::test_timeout", PARTIES - 1, &barrier);
            assert_eq!(said(roles), ["broken"; PARTIES - 1]);
            // The late one.
            assert_eq!(barrier.wait(), Err(BarrierError::Broken));
        });
    }

    #[test]
    fn test_default_timeout() {
        if role().is_some() {
            let begin = Instant::now();
            let outcome = given::<Barrier>().wait();
            assert!(matches!(outcome, Err(BarrierError::Broken | BarrierError::TimedOut)));
            assert!(outcome == Err(BarrierError::Broken) || begin.elapsed() >= Duration::from_millis(400));
            return say("broken");
        }
        guarded(|| {
            let barrier = Barrier::with_timeout(PARTIES, Duration::from_millis(400)).unwrap();
            let roles = parties("barrier::test_default_timeout", PARTIES - 1, &barrier);
            assert_eq!(said(roles), ["broken"; PARTIES - 1]);
            assert!(barrier.is_broken());
        });
    }

    #[test]
    fn test_single_thread() {
        guarded(|| {
            let barrier = Barrier::new(1).unwrap();
            assert_eq!((barrier.wait(), barrier.wait()), (Ok(0), Ok(0)));
        });
    }

    #[test]
    fn test_thousand() {
        if role().is_some() {
            return passes(500);
        }
        lockstep("barrier::test_thousand");
    }
}

mod sharedctypes {
    use super::*;
    use mp_lock::Mutex;

    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C)]
    struct Foo {
        x: i64,
        y: f64,
    }

    type All = (Mutex<i32>, Mutex<f64>, Mutex<i64>, Mutex<Foo>, Mutex<[f64]>, Mutex<[u8]>);

    /// A child doubles one of each kind under its lock: also the struct, which a `Value` cannot hold.
    #[test]
    fn test_synchronize() {
        if role().is_some() {
            let (int, float, long, foo, floats, text): All = given();
            int.acquire().unwrap().with(|value| *value *= 2);
            float.acquire().unwrap().with(|value| *value *= 2.0);
            long.acquire().unwrap().with(|value| *value *= 2);
            foo.acquire().unwrap().with(|foo| *foo = Foo { x: foo.x * 2, y: foo.y * 2.0 });
            floats.acquire().unwrap().with(|values| values.iter_mut().for_each(|value| *value *= 2.0));
            return text.acquire().unwrap().with(|text| text.copy_within(..5, 5));
        }
        guarded(|| {
            let all: All = (
                Mutex::new(7).unwrap(),
                Mutex::new(1.0 / 3.0).unwrap(),
                Mutex::new(1 << 33).unwrap(),
                Mutex::new(Foo { x: 3, y: 2.0 }).unwrap(),
                Mutex::from_slice(&[0.0, 1.0, 2.0]).unwrap(),
                Mutex::from_slice(b"hello     ").unwrap(),
            );
            assert!(start("sharedctypes::test_synchronize", "child", &all).wait().success());
            let numbers = (all.0.acquire().unwrap().get(), all.1.acquire().unwrap().get());
            assert_eq!((numbers, all.2.acquire().unwrap().get()), ((14, 2.0 / 3.0), 1 << 34));
            assert_eq!(all.3.acquire().unwrap().get(), Foo { x: 6, y: 4.0 });
            assert_eq!(all.4.acquire().unwrap().to_vec(), [0.0, 2.0, 4.0]);
            assert_eq!(all.5.acquire().unwrap().to_vec(), b"hellohello");
        });
    }
}
