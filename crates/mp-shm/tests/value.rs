//! `Value`: one element that several processes share.

mod common;

use common::cross;
use mp_shm::{Element, Value};
use mp_test::guarded;
use std::thread;

#[test]
fn smoke() {
    guarded(|| {
        let value = Value::new(1).unwrap();
        value.set(value.get() + 2);
        assert_eq!(value.get(), 3);
        assert_eq!(format!("{value:?}"), "Value(3)");
    });
}

/// Every type that a typecode of Python names keeps its extremes, here and on the other side of a message.
#[test]
fn every_type_keeps_its_values() {
    fn keeps<T: Element>(values: &[T]) {
        for value in values {
            let shared = Value::new(*value).unwrap();
            let there: Value<T> = cross(&shared).unwrap();
            assert_eq!(there.get(), *value);
            for other in values {
                shared.set(*other);
                assert_eq!(there.swap(*value), *other);
                assert_eq!(shared.get(), *value);
            }
        }
    }
    guarded(|| {
        keeps(&[i8::MIN, -1, 0, i8::MAX]);
        keeps(&[0, u8::MAX]);
        keeps(&[i16::MIN, -1, i16::MAX]);
        keeps(&[0, u16::MAX]);
        keeps(&[i32::MIN, -1, i32::MAX]);
        keeps(&[0, u32::MAX]);
        keeps(&[i64::MIN, -1, i64::MAX]);
        keeps(&[0, u64::MAX]);
        keeps(&[isize::MIN, -1, isize::MAX]);
        keeps(&[0, usize::MAX]);
        keeps(&[f32::MIN, 0.1, f32::INFINITY]);
        keeps(&[f64::MIN, 0.1, f64::NEG_INFINITY]);
        keeps(&[false, true]);
        keeps(&['\0', 'a', '多', char::MAX]);
    });
}

#[test]
fn numbers_are_changed_in_one_step() {
    guarded(|| {
        let signed = Value::new(-5_i8).unwrap();
        assert_eq!((signed.fetch_add(3), signed.fetch_sub(126), signed.get()), (-5, -2, -128));
        assert_eq!((signed.fetch_sub(1), signed.get()), (-128, 127));
        assert_eq!((signed.fetch_min(-3), signed.fetch_max(100), signed.get()), (127, -3, 100));
        let unsigned = Value::new(u16::MAX).unwrap();
        assert_eq!((unsigned.fetch_add(2), unsigned.fetch_max(u16::MAX - 1)), (u16::MAX, 1));
        assert_eq!((unsigned.fetch_min(9), unsigned.get()), (u16::MAX - 1, 9));
        let float = Value::new(0.5_f64).unwrap();
        assert_eq!((float.fetch_add(1.0), float.fetch_sub(3.0), float.get()), (0.5, 1.5, -1.5));
        assert_eq!((float.fetch_max(f64::NAN), float.fetch_min(-2.0), float.get()), (-1.5, -1.5, -2.0));
    });
}

#[test]
fn bits_are_changed_in_one_step() {
    guarded(|| {
        let bits = Value::new(0b1100_u32).unwrap();
        assert_eq!((bits.fetch_and(0b0110), bits.fetch_or(1), bits.fetch_xor(0b11)), (0b1100, 0b100, 0b101));
        assert_eq!(bits.get(), 0b110);
        let flag = Value::new(true).unwrap();
        assert_eq!((flag.fetch_xor(true), flag.fetch_or(true), flag.fetch_and(false)), (true, false, true));
        assert!(!flag.get());
    });
}

#[test]
fn compare_exchange_writes_only_over_what_was_expected() {
    guarded(|| {
        let value = Value::new(7_i64).unwrap();
        assert_eq!(value.compare_exchange(6, 1), Err(7));
        assert_eq!((value.compare_exchange(7, 1), value.get()), (Ok(7), 1));
        let float = Value::new(f64::NAN).unwrap();
        assert_eq!(float.compare_exchange(f64::NAN, 0.0).map(f64::is_nan), Ok(true));
        assert_eq!(float.compare_exchange(-0.0, 1.0), Err(0.0));
        let letter = Value::new('a').unwrap();
        assert_eq!((letter.compare_exchange('a', 'b'), letter.get()), (Ok('a'), 'b'));
    });
}

#[test]
fn update_returns_what_was_there() {
    guarded(|| {
        let value = Value::new(10_u8).unwrap();
        assert_eq!((value.update(|old| old * 2), value.get()), (10, 20));
        assert_eq!(value.try_update(|old| old.checked_mul(20)), Err(20));
        assert_eq!((value.try_update(|old| old.checked_add(1)), value.get()), (Ok(20), 21));
    });
}

#[test]
fn no_step_of_several_threads_is_lost() {
    const ROUNDS: u16 = if cfg!(miri) { 10 } else { 10_000 };
    guarded(|| {
        let (int, float, updated) =
            (Value::new(0_u64).unwrap(), Value::new(0.0).unwrap(), Value::new(0_i16).unwrap());
        let work = || {
            for _ in 0..ROUNDS {
                int.fetch_add(1);
                float.fetch_add(0.5);
                updated.update(|old| old.wrapping_add(1));
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(work)));
        assert_eq!(int.get(), 4 * u64::from(ROUNDS));
        assert_eq!(float.get(), 2.0 * f64::from(ROUNDS));
        assert_eq!(updated.get(), (4 * ROUNDS).cast_signed());
    });
}

#[test]
fn a_clone_is_the_same_value() {
    guarded(|| {
        let one = Value::new(1).unwrap();
        let two = one.clone();
        two.set(5);
        drop(two);
        assert_eq!(one.get(), 5);
    });
}

#[test]
fn another_type_is_refused() {
    guarded(|| {
        let value = Value::new(1_i32).unwrap();
        assert!(cross::<_, Value<u32>>(&value).is_err());
        assert!(cross::<_, Value<f32>>(&value).is_err());
        assert!(cross::<_, Value<i64>>(&value).is_err());
        assert!(cross::<_, mp_shm::Frozen<i32>>(&value).is_err());
        assert!(cross::<_, Value<u64>>(&Value::new(1_usize).unwrap()).is_err());
        assert!(cross::<_, Value<i32>>(&value).is_ok());
    });
}

#[test]
fn a_value_of_another_length_is_refused() {
    use mp_shm::{Format, Segment};
    guarded(|| {
        // As a broken program would make it: the right header over too little memory.
        let format = Format { kind: *b"VALU", version: 2, element: 5, element_size: 4 };
        assert!(cross::<_, Value<i32>>(&Segment::create(format, 4).unwrap()).is_ok());
        assert!(cross::<_, Value<i32>>(&Segment::create(format, 3).unwrap()).is_err());
        assert!(cross::<_, Value<i32>>(&Segment::create(format, 8).unwrap()).is_err());
    });
}
