//! The adapters for programs written against `raw_sync`: its traits hold, its faults do not show. The numbers are those of
//! the list of its faults in the crate's documentation of the adapters, in order of their finding.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "the traits are over raw memory")]

mod help;

use help::{asleep, given, killed_at, say_thread, start, stay};
use mp_lock::LockError;
use mp_lock::raw_sync::{
    EventError, EventImpl, EventInit, EventState, FutexEvent, LockImpl, LockInit, RobustMutex, Timeout,
};
use mp_shm::{Format, HEADER, Segment};
use mp_test::{guarded, role, say};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

const FORMAT: Format = Format::plain(*b"RAWS", 1);

/// Shared memory with a lock, an event that resets itself, and one that does not.
struct Memory(Segment);

impl Memory {
    fn new() -> Memory {
        let memory = Memory(Segment::create(FORMAT, 512).unwrap());
        // SAFETY: fresh memory, far enough apart.
        drop(unsafe { RobustMutex::create(memory.at(0), memory.at(400)) }.unwrap());
        // SAFETY: as above.
        let _auto = unsafe { FutexEvent::create(memory.at(100), true) };
        // SAFETY: as above.
        let _manual = unsafe { FutexEvent::create(memory.at(200), false) };
        memory
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.0.map().at::<u8>(HEADER + offset)
    }

    fn lock(&self) -> RobustMutex {
        // SAFETY: the memory outlives the test's use of it.
        unsafe { RobustMutex::attach(self.at(0), self.at(400)) }.unwrap().0
    }

    fn event(&self, auto: bool) -> FutexEvent {
        // SAFETY: as above.
        unsafe { FutexEvent::attach(self.at(if auto { 100 } else { 200 })) }.unwrap().0
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Memory, D::Error> {
        Segment::deserialize_as(deserializer, FORMAT).map(Memory)
    }
}

fn millis(millis: u64) -> Timeout {
    Timeout::Val(Duration::from_millis(millis))
}

fn is<E: Error + PartialEq + 'static>(error: &(dyn Error + 'static), what: &E) -> bool {
    error.downcast_ref::<E>() == Some(what)
}

/// Written against the traits alone, as a program that swaps the types.
fn through_the_traits(memory: &mut [u8], data: &mut u64) -> Result<(), Box<dyn Error>> {
    let (start, data) = (memory.as_mut_ptr(), std::ptr::from_mut(data).cast());
    assert!(RobustMutex::size_of(None) + FutexEvent::size_of(None) <= memory.len());
    // SAFETY: as large as `size_of` says, and longer-lived than the handles.
    let (lock, used) = unsafe { RobustMutex::new(start, data) }?;
    assert_eq!(used, RobustMutex::size_of(Some(start)));
    // SAFETY: as above.
    let (again, used_again) = unsafe { RobustMutex::from_existing(start, data) }?;
    assert_eq!(used_again, used);
    let guard = lock.lock()?;
    let byte: *mut u8 = *guard;
    // SAFETY: the lock is ours, and the data outlives it.
    unsafe { byte.write(7) };
    drop(guard);
    drop(again.try_lock(Timeout::Infinite)?);
    drop(again.try_rlock(millis(1))?);
    // SAFETY: behind the lock.
    let rest = unsafe { start.add(used) };
    // SAFETY: as for the lock.
    let (event, used) = unsafe { FutexEvent::new(rest, true) }?;
    // Fault 9: what is reported is what is needed.
    assert_eq!(used, FutexEvent::size_of(Some(rest)));
    // SAFETY: as above.
    let (other, _) = unsafe { FutexEvent::from_existing(rest) }?;
    event.set(EventState::Signaled)?;
    other.wait(Timeout::Infinite)?;
    assert!(other.wait(millis(0)).is_err(), "it resets itself");
    event.set(EventState::Signaled)?;
    event.set(EventState::Clear)?;
    assert!(event.wait(millis(0)).is_err());
    Ok(())
}

#[test]
fn smoke() {
    guarded(|| {
        for skew in 0..16 {
            let (mut memory, mut data) = ([0_u8; 256], 0);
            through_the_traits(&mut memory[skew..], &mut data).unwrap();
        }
    });
}

/// Fault 1: a killed holder kept the lock for ever.
#[test]
fn a_killed_holder_gives_the_lock_up_with_the_news() {
    if role().is_some() {
        let memory: Memory = given();
        let lock = memory.lock();
        let _guard = lock.lock().unwrap();
        say("holding");
        stay();
    }
    guarded(|| {
        let memory = Memory::new();
        let mut holder = start("a_killed_holder_gives_the_lock_up_with_the_news", "holder", &memory);
        holder.expect("holding");
        let lock = memory.lock();
        thread::scope(|scope| {
            // One is blocked already when it happens.
            let waiter = scope.spawn(|| drop(lock.lock().unwrap()));
            holder.kill();
            waiter.join().unwrap();
        });
        let guard = lock.try_lock(millis(0)).unwrap();
        assert!(lock.owner_died());
        lock.mark_recovered();
        drop(guard);
        drop(lock.lock().unwrap());
        assert!(!lock.owner_died());
    });
}

/// Fault 2 is its `RwLock`'s, which has no adapter: `rlock` is exclusive here, and robust.
#[test]
fn a_killed_reader_gives_the_lock_up_too() {
    if role().is_some() {
        let memory: Memory = given();
        let lock = memory.lock();
        let _guard = lock.rlock().unwrap();
        say("reading");
        stay();
    }
    guarded(|| {
        let memory = Memory::new();
        let mut reader = start("a_killed_reader_gives_the_lock_up_too", "reader", &memory);
        reader.expect("reading");
        reader.kill();
        drop(memory.lock().lock().unwrap());
    });
}

/// Faults 3, 6 and 11: a time-out ended at once for want of a carry, on the wall clock, as text.
#[test]
fn a_lock_s_time_out_lasts_as_long_and_has_a_type() {
    guarded(|| {
        let memory = Memory::new();
        let lock = memory.lock();
        let guard = lock.lock().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for wait in [1, 100, 500, 900, 999] {
                    let start = Instant::now();
                    let error = lock.try_lock(millis(wait)).map(drop).unwrap_err();
                    assert!(start.elapsed() >= Duration::from_millis(wait));
                    assert!(is(&*error, &LockError::TimedOut), "{error}");
                }
            });
        });
        drop(guard);
        drop(lock.try_lock(Timeout::Val(Duration::MAX)).unwrap());
    });
}

/// Faults 4 and 11, for events.
#[test]
fn an_event_s_time_out_lasts_as_long_and_has_a_type() {
    guarded(|| {
        let memory = Memory::new();
        for auto in [true, false] {
            let event = memory.event(auto);
            for wait in [1, 100, 900, 999] {
                let start = Instant::now();
                let error = event.wait(millis(wait)).unwrap_err();
                assert!(start.elapsed() >= Duration::from_millis(wait));
                assert!(is(&*error, &EventError::TimedOut), "{error}");
            }
        }
    });
}

/// Fault 5: after a killed waiter, a later `set` hung for ever.
#[test]
fn killed_waiters_do_not_keep_set_from_returning() {
    if let Some(role) = role() {
        let memory: Memory = given();
        let event = memory.event(role == "auto");
        say_thread();
        event.wait(Timeout::Infinite).unwrap();
        say("let go");
        stay();
    }
    guarded(|| {
        let test = "killed_waiters_do_not_keep_set_from_returning";
        for kind in ["auto", "manual"] {
            let memory = Memory::new();
            let event = memory.event(kind == "auto");
            for _ in 0..2 {
                let mut waiter = start(test, kind, &memory);
                asleep(&mut waiter);
                waiter.kill();
            }
            let mut living = start(test, kind, &memory);
            asleep(&mut living);
            for _ in 0..5 {
                event.set(EventState::Signaled).unwrap();
            }
            living.expect("let go");
            living.kill();
        }
    });
}

/// Fault 7: any process could release what another holds. And locking twice in a thread hung.
#[test]
fn only_the_holder_releases_and_nobody_locks_twice() {
    guarded(|| {
        let memory = Memory::new();
        let lock = memory.lock();
        let guard = lock.lock().unwrap();
        let again = lock.try_lock(Timeout::Val(Duration::MAX)).map(drop).unwrap_err();
        assert!(is(&*again, &LockError::AlreadyHeld), "{again}");
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(is(&*lock.release().unwrap_err(), &LockError::Os(libc::EPERM)));
                assert!(lock.try_lock(millis(0)).is_err(), "it is held still");
            });
        });
        drop(guard);
        assert!(lock.release().is_err(), "released once already");
    });
}

/// Fault 8: a guard lets safe code replace the pointer to the data, for all later users of the handle.
#[test]
fn a_pointer_replaced_through_a_guard_is_back_for_the_next() {
    guarded(|| {
        let memory = Memory::new();
        let lock = memory.lock();
        let mut guard = lock.lock().unwrap();
        *guard = std::ptr::null_mut();
        drop(guard);
        assert_eq!(*lock.lock().unwrap(), memory.at(400));
    });
}

/// Fault 10 is its `BusyEvent`'s: here, what was written before `set` is seen after `wait`, and waiting sleeps.
#[test]
fn what_was_written_before_set_is_seen_after_wait() {
    guarded(|| {
        let memory = Memory::new();
        let (there, back) = (memory.event(true), memory.event(false));
        let value = std::sync::atomic::AtomicU32::new(0);
        use std::sync::atomic::Ordering::Relaxed;
        thread::scope(|scope| {
            scope.spawn(|| {
                there.wait(Timeout::Infinite).unwrap();
                assert_eq!(value.load(Relaxed), 1);
                value.store(2, Relaxed);
                back.set(EventState::Signaled).unwrap();
            });
            value.store(1, Relaxed);
            there.set(EventState::Signaled).unwrap();
            back.wait(Timeout::Infinite).unwrap();
            assert_eq!(value.load(Relaxed), 2);
        });
    });
}

/// Fault 12: handles could not cross threads.
#[test]
fn the_concrete_types_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<RobustMutex>();
    crosses::<FutexEvent>();
    crosses::<LockError>();
    crosses::<EventError>();
}

/// Fault 13: attaching to memory that was never initialised was undefined.
#[test]
fn memory_that_was_never_initialised_is_refused() {
    guarded(|| {
        let mut memory = [0_u64; 32];
        let start: *mut u8 = memory.as_mut_ptr().cast();
        // SAFETY: readable and writable, as large as need be.
        let error = unsafe { RobustMutex::attach(start, start) }.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        // SAFETY: as above.
        assert!(unsafe { RobustMutex::from_existing(start, start) }.is_err());
        // SAFETY: as above.
        assert!(unsafe { FutexEvent::from_existing(start) }.is_err());
    });
}

/// Kills at `raw_sync.lock:1..=2`, inheriting from one dead already, and at `raw_sync.lock:3`.
#[test]
fn a_death_at_any_step_leaves_the_lock_to_the_next() {
    if let Some(role) = role() {
        let memory: Memory = given();
        let lock = memory.lock();
        let guard = lock.lock().unwrap();
        if role == "holder" {
            say("holding");
            stay();
        }
        drop(guard);
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_leaves_the_lock_to_the_next";
        let orphaned = || {
            let memory = Memory::new();
            let mut holder = start(test, "holder", &memory);
            holder.expect("holding");
            holder.kill();
            memory
        };
        killed_at(test, &["raw_sync.lock:1..=3"], orphaned, |step, memory| {
            let lock = memory.lock();
            drop(lock.lock().unwrap());
            assert!(lock.owner_died(), "no news after {step}");
        });
    });
}

/// Kills at `raw_sync.set:1..=2` and, woken, at `raw_sync.wait:1`: an event that was set lets exactly one pass.
#[test]
fn an_event_outlives_setter_and_waiter_at_any_step() {
    if let Some(role) = role() {
        let memory: Memory = given();
        let event = memory.event(true);
        if role == "waiter" {
            event.wait(Timeout::Infinite).unwrap();
        } else if event.wait(millis(1)).is_err() {
            event.set(EventState::Signaled).unwrap();
        }
        say("done");
        return;
    }
    guarded(|| {
        let test = "an_event_outlives_setter_and_waiter_at_any_step";
        let steps = ["raw_sync.set:1..=2", "raw_sync.wait:1"];
        killed_at(test, &steps, Memory::new, |step, memory| {
            let mut waiter = start(test, "waiter", &memory);
            if step == "raw_sync.wait:1" {
                memory.event(true).set(EventState::Signaled).unwrap();
            }
            waiter.expect("done");
            assert!(waiter.wait().success());
            assert!(memory.event(true).wait(millis(0)).is_err(), "passed twice after {step}");
        });
    });
}

/// Kills at `raw_sync.set:1` (the event is set, nobody was told), with a waiter asleep.
#[test]
fn a_waiter_sees_what_a_dead_setter_did_not_tell() {
    if let Some(role) = role() {
        let memory: Memory = given();
        let event = memory.event(false);
        if role == "waiter" {
            say_thread();
            event.wait(Timeout::Infinite).unwrap();
        } else {
            event.set(EventState::Signaled).unwrap();
        }
        say("done");
        return;
    }
    let test = "a_waiter_sees_what_a_dead_setter_did_not_tell";
    if !mp_test::steps_or_say(mp_core::step::enabled(), test) {
        return;
    }
    guarded(|| {
        let memory = Memory::new();
        let mut waiter = start(test, "waiter", &memory);
        asleep(&mut waiter);
        let mut setter = help::start_with(test, "setter", &memory, Some("raw_sync.set:1"));
        assert_eq!(setter.word(), None);
        waiter.expect("done");
        assert!(waiter.wait().success());
    });
}

/// Fault 6: sleeps were on the wall clock, whose steps stretch and cut them.
#[test]
fn no_sleep_is_on_the_wall_clock() {
    const ON_THE_WALL_CLOCK: u64 = 256;
    let operation = |thread: String| {
        let mut operation = None;
        mp_test::until("the waiter sleeps", || {
            let call =
                std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
            let words: Vec<_> = call.split_whitespace().collect();
            if words.first().and_then(|word| word.parse().ok()) == Some(libc::SYS_futex) {
                operation = u64::from_str_radix(words[2].trim_start_matches("0x"), 16).ok();
            }
            operation.is_some()
        });
        operation.unwrap()
    };
    // Let go only when it was seen asleep, however long that takes.
    let hour = || Timeout::Val(Duration::from_secs(3600));
    let observed = |wait: &(dyn Fn() + Sync), let_go: &mut dyn FnMut()| {
        thread::scope(|scope| {
            let (at, from) = std::sync::mpsc::channel();
            scope.spawn(move || {
                at.send(rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
                wait();
            });
            assert_eq!(operation(from.recv().unwrap()) & ON_THE_WALL_CLOCK, 0);
            let_go();
        });
    };
    guarded(|| {
        // Both stay mapped for as long as their contents are used.
        let (lock_memory, event_memory) = (Memory::new(), Memory::new());
        let (lock, event) = (lock_memory.lock(), event_memory.event(true));
        let mut guard = Some(lock.lock().unwrap());
        observed(&|| drop(lock.try_lock(hour()).unwrap()), &mut || drop(guard.take()));
        observed(&|| event.wait(hour()).unwrap(), &mut || event.set(EventState::Signaled).unwrap());
    });
}
