//! Waiting until a shared value or element changes.

mod common;

use common::{cross, name};
use mp_shm::{Array, Element, SharedMemory, Value, give, take};
use mp_test::{Role, command, guarded, say};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn smoke() {
    guarded(|| {
        let value = Value::new(0).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| value.wait_changed(0));
            value.set(5);
            assert_eq!(waiter.join().unwrap(), 5);
        });
        assert_eq!(value.wait_until(|now| now > 4), 5);
    });
}

#[test]
fn a_time_out_lasts_at_least_so_long_and_zero_looks_once() {
    guarded(|| {
        let value = Value::new(1_u8).unwrap();
        let start = Instant::now();
        assert_eq!(value.wait_changed_timeout(1, SHORT), None);
        assert!(start.elapsed() >= SHORT);
        let start = Instant::now();
        assert_eq!(value.wait_until_deadline(|now| now == 9, start + SHORT), None);
        assert!(start.elapsed() >= SHORT);
        assert_eq!(value.wait_changed_deadline(1, start), None);
        assert_eq!(value.wait_changed_timeout(2, Duration::ZERO), Some(1));
        assert_eq!(value.wait_until_timeout(|now| now == 2, Duration::ZERO), None);
    });
}

/// Every operation that changes something wakes who waits; the time-outs are far longer than the watchdog's patience.
#[test]
fn every_change_wakes() {
    guarded(|| {
        let value = Value::new(0_u64).unwrap();
        let changes: [fn(&Value<u64>); 11] = [
            |value| value.set(100),
            |value| _ = value.swap(101),
            |value| _ = value.compare_exchange(101, 102),
            |value| _ = value.update(|old| old + 1),
            |value| _ = value.try_update(|old| old.checked_add(1)),
            |value| _ = value.fetch_add(1),
            |value| _ = value.fetch_sub(1),
            |value| _ = value.fetch_max(500),
            |value| _ = value.fetch_min(499),
            |value| _ = value.fetch_or(1 << 20),
            |value| _ = value.fetch_xor(1 << 21),
        ];
        for change in changes {
            wakes(&value, || change(&value));
        }
        wakes(&value, || _ = value.fetch_and(1 << 20));
    });
}

fn wakes<T: Element>(value: &Value<T>, change: impl FnOnce()) {
    let old = value.get();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| value.wait_changed_timeout(old, Duration::from_secs(3600)));
        // Some of the changes come before the sleep, most during it; neither may be missed.
        thread::yield_now();
        change();
        assert!(waiter.join().is_ok_and(|seen| seen.is_some()));
    });
}

#[test]
fn every_element_of_an_array_can_be_waited_for_also_in_a_part() {
    guarded(|| {
        let array = Array::<i16>::new(20).unwrap();
        let part = array.slice(7..13);
        let changes: [fn(&Array<i16>, usize); 4] = [
            |array, index| array.set(index, 1),
            |array, index| _ = array.at(index).fetch_add(1),
            |array, index| array.copy_in(index, &[30]),
            |array, _| array.fill(40),
        ];
        for change in changes {
            for index in 0..part.len() {
                array.set(7 + index, 0);
                thread::scope(|scope| {
                    let waiter = scope.spawn(|| part.at(index).wait_until(|now| now != 0));
                    change(&array, 7 + index);
                    assert_ne!(waiter.join().unwrap(), 0);
                });
            }
        }
    });
}

#[test]
fn floats_bools_and_chars_can_be_waited_for() {
    guarded(|| {
        let (float, flag, letter) =
            (Value::new(f64::NAN).unwrap(), Value::new(false).unwrap(), Value::new('a').unwrap());
        assert!(float.wait_changed_timeout(f64::NAN, Duration::ZERO).is_none(), "a NaN equals itself");
        thread::scope(|scope| {
            let waiters = (
                scope.spawn(|| float.wait_changed(f64::NAN)),
                scope.spawn(|| flag.wait_until(|flag| flag)),
                scope.spawn(|| letter.wait_changed('a')),
            );
            float.set(-0.0);
            flag.fetch_or(true);
            letter.set('多');
            assert_eq!(waiters.0.join().unwrap(), -0.0);
            assert!(waiters.1.join().unwrap());
            assert_eq!(waiters.2.join().unwrap(), '多');
        });
    });
}

/// Whatever writes there, be it another program: the elements of named memory are looked at again and again.
#[test]
fn elements_of_named_memory_can_be_waited_for() {
    guarded(|| {
        let memory = SharedMemory::create(&name("waited"), 64).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| memory.at::<u32>(8).wait_until(|now| now == 7));
            memory.copy_in(8, &7_u32.to_ne_bytes());
            assert_eq!(waiter.join().unwrap(), 7);
        });
        assert_eq!(memory.at::<u32>(8).wait_changed_timeout(7, SHORT), None);
    });
}

#[test]
fn who_waits_may_wait_for_another_meanwhile() {
    guarded(|| {
        let (one, two) = (Value::new(0).unwrap(), Value::new(0).unwrap());
        thread::scope(|scope| {
            let waiter =
                scope.spawn(|| one.wait_until(|now| now == 1 && two.wait_until(|now| now == 2) == 2));
            two.set(2);
            one.set(1);
            assert_eq!(waiter.join().unwrap(), 1);
        });
    });
}

/// A value goes to and fro between two processes; a wake that is missed would cost a slice each, and thousands of those the
/// watchdog's patience.
#[test]
fn a_value_is_handed_to_and_fro_between_processes() {
    const ME: &str = "a_value_is_handed_to_and_fro_between_processes";
    const ROUNDS: u32 = 10_000;
    if mp_test::role().is_some() {
        let ball: Value<u32> = take("ball").unwrap();
        for round in 0..ROUNDS {
            ball.wait_until(|ball| ball == 2 * round + 1);
            ball.set(2 * round + 2);
        }
        return;
    }
    guarded(|| {
        let ball = Value::new(0).unwrap();
        let mut command = command(ME, "child");
        give(&mut command, "ball", &ball).unwrap();
        let mut child = Role::start(command);
        for round in 0..ROUNDS {
            ball.set(2 * round + 1);
            ball.wait_until(|ball| ball == 2 * round + 2);
        }
        assert!(child.wait().success());
    });
}

/// One who was killed while it waited, and thereby armed the bell, neither holds up a change nor others who wait.
#[test]
fn a_killed_waiter_harms_nobody() {
    const ME: &str = "a_killed_waiter_harms_nobody";
    if mp_test::role().is_some() {
        let value: Value<u8> = take("value").unwrap();
        say("waiting");
        value.wait_changed(0);
        unreachable!("it is killed before");
    }
    guarded(|| {
        let value = Value::new(0_u8).unwrap();
        let there: Value<u8> = cross(&value).unwrap();
        for _ in 0..5 {
            let mut command = command(ME, "waiter");
            give(&mut command, "value", &value).unwrap();
            let mut waiter = Role::start(command);
            waiter.expect("waiting");
            waiter.kill();
            wakes(&there, || value.set(1));
            value.set(0);
        }
    });
}
