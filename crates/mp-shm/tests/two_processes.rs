//! What a child of `std::process::Command` does is seen here, and the other way round.

mod common;

use mp_shm::{Array, Frozen, SharedMemory, TakeError, Value, give, take};
use mp_test::{Role, command, guarded, hear, say};

#[test]
fn a_value_set_in_a_child_is_seen_here() {
    const ME: &str = "a_value_set_in_a_child_is_seen_here";
    if mp_test::role().is_some() {
        let value: Value<f64> = take("value").unwrap();
        assert_eq!(value.get(), 0.0);
        value.set(0.25);
        return;
    }
    guarded(|| {
        let value = Value::new(0.0).unwrap();
        let mut command = command(ME, "child");
        give(&mut command, "value", &value).unwrap();
        assert!(Role::start(command).wait().success());
        assert_eq!(value.get(), 0.25);
    });
}

#[test]
fn no_step_of_several_processes_is_lost() {
    const ME: &str = "no_step_of_several_processes_is_lost";
    const ROUNDS: u32 = 10_000;
    if mp_test::role().is_some() {
        let (sum, bits, floats): (Value<i32>, Value<u8>, Array<f32>) = take("all").unwrap();
        say("ready");
        let _go = hear();
        for _ in 0..ROUNDS {
            sum.fetch_add(3);
            bits.fetch_xor(0b11);
            floats.at(1).fetch_add(1.0);
        }
        return;
    }
    guarded(|| {
        let all = (Value::new(0).unwrap(), Value::new(0_u8).unwrap(), Array::<f32>::new(2).unwrap());
        let mut children: Vec<Role> = (0..3)
            .map(|_| {
                let mut command = command(ME, "child");
                give(&mut command, "all", &all).unwrap();
                let mut child = Role::start(command);
                child.expect("ready");
                child
            })
            .collect();
        children.iter_mut().for_each(|child| child.tell("go"));
        assert!(children.iter_mut().all(|child| child.wait().success()));
        assert_eq!(all.0.get(), 9 * i32::try_from(ROUNDS).unwrap());
        assert_eq!(all.1.get(), 0);
        assert_eq!(all.2.to_vec(), [0.0, 3.0 * 10_000.0]);
    });
}

/// As CPython's own test does: prefix sums in place, in the child.
#[test]
fn an_array_is_changed_in_place_by_a_child() {
    const ME: &str = "an_array_is_changed_in_place_by_a_child";
    if mp_test::role().is_some() {
        let array: Array<i32> = take("array").unwrap();
        for index in 1..array.len() {
            let before = array.at(index - 1).get();
            array.at(index).fetch_add(before);
        }
        return;
    }
    guarded(|| {
        let array = Array::from_slice(&[680, 626, 934, 821, 150, 233, 548, 982, 714, 831]).unwrap();
        let part = array.slice(2..);
        let mut command = command(ME, "child");
        give(&mut command, "array", &part).unwrap();
        assert!(Role::start(command).wait().success());
        assert_eq!(array.to_vec(), [680, 626, 934, 1755, 1905, 2138, 2686, 3668, 4382, 5213]);
    });
}

#[test]
fn a_frozen_slice_is_the_same_in_a_child() {
    const ME: &str = "a_frozen_slice_is_the_same_in_a_child";
    if mp_test::role().is_some() {
        let frozen: Frozen<u64> = take("frozen").unwrap();
        assert_eq!(frozen.len(), 1 << 20);
        assert!((0..).zip(&*frozen).all(|(index, element)| index * 3 == *element));
        return;
    }
    guarded(|| {
        let frozen = Frozen::build(1 << 20, |new: &mut [u64]| {
            (0..).zip(new).for_each(|(index, element)| *element = index * 3);
        });
        let mut command = command(ME, "child");
        give(&mut command, "frozen", &frozen.unwrap()).unwrap();
        assert!(Role::start(command).wait().success());
    });
}

#[test]
fn a_child_finds_named_memory_by_name_and_by_handle() {
    const ME: &str = "a_child_finds_named_memory_by_name_and_by_handle";
    if mp_test::role().is_some() {
        let handle: SharedMemory = take("memory").unwrap();
        let opened = SharedMemory::open(handle.name()).unwrap();
        opened.at::<u32>(0).set(7);
        handle.at::<u32>(4).set(8);
        assert_eq!((handle.len(), opened.len()), (10_000, 10_000));
        return;
    }
    guarded(|| {
        let memory = SharedMemory::create(&common::name("handle"), 10_000).unwrap();
        let mut command = command(ME, "child");
        give(&mut command, "memory", &memory).unwrap();
        assert!(Role::start(command).wait().success());
        assert_eq!((memory.at::<u32>(0).get(), memory.at::<u32>(4).get()), (7, 8));
        // The child's end was no end of the creator.
        assert!(common::exists(memory.name()));
    });
}

#[test]
fn a_child_that_asks_for_another_type_gets_an_error() {
    const ME: &str = "a_child_that_asks_for_another_type_gets_an_error";
    if mp_test::role().is_some() {
        assert!(matches!(take::<Value<i32>>("value"), Err(TakeError::Decode(_))));
        assert!(matches!(take::<Value<i32>>("nothing"), Err(TakeError::Missing(_))));
        return;
    }
    guarded(|| {
        let mut command = command(ME, "child");
        give(&mut command, "value", &Value::new(1_u32).unwrap()).unwrap();
        assert!(Role::start(command).wait().success());
    });
}

/// Whoever is killed in the middle of changing a value leaves a whole one, and nobody waiting.
#[test]
fn a_child_that_is_killed_leaves_whole_elements() {
    const ME: &str = "a_child_that_is_killed_leaves_whole_elements";
    const WHOLE: [u64; 2] = [0, u64::MAX];
    if mp_test::role().is_some() {
        let (value, array): (Value<u64>, Array<u64>) = take("both").unwrap();
        say("writing");
        loop {
            for element in WHOLE {
                value.set(element);
                array.fill(element);
                value.update(|old| !old);
            }
        }
    }
    guarded(|| {
        for _ in 0..10 {
            let both = (Value::new(0).unwrap(), Array::<u64>::new(100).unwrap());
            let mut command = command(ME, "child");
            give(&mut command, "both", &both).unwrap();
            let mut child = Role::start(command);
            child.expect("writing");
            mp_test::until("the child writes", || both.1.iter().any(|element| element != 0));
            child.kill();
            assert!(WHOLE.contains(&both.0.get()));
            assert!(both.1.iter().all(|element| WHOLE.contains(&element)));
            both.0.update(|old| old);
        }
    });
}
