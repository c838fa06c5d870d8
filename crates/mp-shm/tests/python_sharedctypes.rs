//! What CPython's tests of shared ctypes, their heap, and names promise.

mod common;

use common::name;
use mp_shm::{Array, Frozen, SharedMemory, Value, give, take};
use mp_test::{Census, Role, command, guarded};
use std::thread;

#[test]
fn a_child_doubles_one_of_each() {
    const ME: &str = "a_child_doubles_one_of_each";
    type All = (Value<i32>, Value<f64>, Value<i64>, Array<f64>, Array<u8>);
    if mp_test::role().is_some() {
        let (int, float, long, floats, text): All = take("all").unwrap();
        int.update(|value| value * 2);
        float.update(|value| value * 2.0);
        long.update(|value| value * 2);
        (0..floats.len()).for_each(|index| _ = floats.at(index).update(|value| value * 2.0));
        let twice = text.slice(..5).to_vec().repeat(2);
        return text.copy_in(0, &twice);
    }
    guarded(|| {
        let all: All = (
            Value::new(7).unwrap(),
            Value::new(1.0 / 3.0).unwrap(),
            Value::new(1 << 33).unwrap(),
            Array::from_slice(&[0.0, 1.0, 2.0]).unwrap(),
            Array::new(20).unwrap(),
        );
        all.4.copy_in(0, b"hello");
        let mut command = command(ME, "child");
        give(&mut command, "all", &all).unwrap();
        assert!(Role::start(command).wait().success());
        assert_eq!((all.0.get(), all.1.get(), all.2.get()), (14, 2.0 / 3.0, 1 << 34));
        assert_eq!(all.3.to_vec(), [0.0, 2.0, 4.0]);
        assert_eq!(&all.4.to_vec()[..11], b"hellohello\0");
    });
}

#[test]
fn a_copy_is_independent_of_what_was_copied() {
    guarded(|| {
        let original = Array::from_slice(&[1, 2, 3]).unwrap();
        let copy = Array::from_slice(&original.to_vec()).unwrap();
        original.fill(0);
        assert_eq!(copy.to_vec(), [1, 2, 3]);
    });
}

/// Thousands of pieces of all sizes come and go in a random order, and at the end every descriptor and mapping is gone.
#[test]
fn memory_made_and_freed_at_random_is_all_given_back() {
    guarded(|| {
        let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:mp-").count();
        let (census, before) = (Census::take(), mappings());
        let mut pieces: Vec<(u8, Array<u8>)> = Vec::new();
        let mut seed = 1_u64;
        for _ in 0..if cfg!(miri) { 20 } else { 5000 } {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = usize::try_from(seed >> 40).unwrap();
            if pieces.len() < 100 && !random.is_multiple_of(3) {
                let piece = Array::new(random % 40_000).unwrap();
                assert!(piece.iter().step_by(97).all(|byte| byte == 0), "fresh memory is zeroed");
                piece.fill(seed.to_le_bytes()[4]);
                pieces.push((seed.to_le_bytes()[4], piece));
            } else if !pieces.is_empty() {
                let (filled, piece) = pieces.swap_remove(random % pieces.len());
                assert!(piece.iter().step_by(97).all(|byte| byte == filled), "nobody else wrote into it");
            }
        }
        drop(pieces);
        assert_eq!(mappings(), before);
        census.assert_nothing_left();
    });
}

/// There is no allocator with a lock that a drop at the wrong moment could meet: threads make and drop at once.
#[test]
fn memory_is_freed_while_other_memory_is_made() {
    guarded(|| {
        let work = || {
            for round in 0..if cfg!(miri) { 2 } else { 200_u16 } {
                let value = Value::new(round).unwrap();
                let dropped_within = value.update(|old| {
                    drop(Frozen::from_slice(&[old]).unwrap());
                    old + 1
                });
                assert_eq!((dropped_within, value.get()), (round, round + 1));
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(work)));
    });
}

#[test]
fn names_may_hold_colons_and_line_ends() {
    guarded(|| {
        for odd in ["a:b:c", "a\nb", "with space", "ünï"] {
            let name = name(odd);
            let memory = SharedMemory::create(&name, 10).unwrap();
            memory.at::<u8>(3).set(3);
            assert_eq!(SharedMemory::open(&name).unwrap().at::<u8>(3).get(), 3);
            assert!(memory.unlink().unwrap());
        }
    });
}
