//! `Array`: elements in a row that several processes share.

mod common;

use common::cross;
use mp_shm::{Array, Element};
use mp_test::guarded;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn smoke() {
    guarded(|| {
        let array = Array::from_slice(&[1, 2, 3]).unwrap();
        array.set(0, 10);
        assert_eq!(array.to_vec(), [10, 2, 3]);
        assert_eq!(format!("{array:?}"), "[10, 2, 3]");
    });
}

#[test]
fn a_new_array_is_zeroed_also_where_memory_is_used_again() {
    guarded(|| {
        for _ in 0..10 {
            let array = Array::<u64>::new(5000).unwrap();
            assert!(array.iter().all(|element| element == 0));
            array.fill(u64::MAX);
        }
        assert_eq!(Array::<bool>::new(2).unwrap().to_vec(), [false, false]);
        assert_eq!(Array::<char>::new(2).unwrap().to_vec(), ['\0', '\0']);
        assert_eq!(Array::<f32>::new(2).unwrap().to_vec(), [0.0, 0.0]);
    });
}

#[test]
fn every_type_keeps_its_values() {
    fn keeps<T: Element>(values: &[T]) {
        let array = Array::from_slice(values).unwrap();
        let there: Array<T> = cross(&array).unwrap();
        assert_eq!(there.to_vec(), values);
        assert_eq!(there.iter().collect::<Vec<_>>(), values);
        for (index, value) in values.iter().enumerate() {
            assert_eq!(there.get(index), Some(*value));
            let first = array.at(0).swap(*value);
            assert_eq!(there.get(0), Some(*value));
            there.set(0, first);
        }
    }
    guarded(|| {
        keeps(&[i8::MIN, -1, 0, i8::MAX]);
        keeps(&[0, 1, u8::MAX]);
        keeps(&[i16::MIN, -1, i16::MAX]);
        keeps(&[0, 1, u16::MAX]);
        keeps(&[i32::MIN, -1, i32::MAX]);
        keeps(&[0, 1, u32::MAX]);
        keeps(&[i64::MIN, -1, i64::MAX]);
        keeps(&[0, 1, u64::MAX]);
        keeps(&[isize::MIN, -1, isize::MAX]);
        keeps(&[0, 1, usize::MAX]);
        keeps(&[f32::MIN, 0.1, f32::INFINITY]);
        keeps(&[f64::MIN, 0.1, f64::NEG_INFINITY]);
        keeps(&[false, true, true]);
        keeps(&['\0', 'a', '多', char::MAX]);
    });
}

#[test]
fn one_element_is_changed_in_one_step() {
    guarded(|| {
        let array = Array::from_slice(&[1.5, 2.5]).unwrap();
        assert_eq!((array.at(1).fetch_add(1.0), array.at(1).get(), array.at(0).get()), (2.5, 3.5, 1.5));
        assert_eq!(array.at(0).swap(9.0), 1.5);
        assert_eq!(array.at(0).compare_exchange(9.0, 8.0), Ok(9.0));
        assert_eq!(array.to_vec(), [8.0, 3.5]);
    });
}

#[test]
fn many_elements_go_in_and_out_at_every_place() {
    guarded(|| {
        let array = Array::<u16>::new(3000).unwrap();
        let part: Vec<u16> = (1..=1000).collect();
        for start in [0, 1, 999, 2000] {
            array.fill(0);
            array.copy_in(start, &part);
            let mut out = vec![0; 1000];
            array.copy_out(start, &mut out);
            assert_eq!(out, part);
            assert_eq!(array.iter().filter(|element| *element != 0).count(), 1000);
            assert_eq!(array.get(start + 999), Some(1000));
        }
    });
}

#[test]
fn beyond_the_end_is_none_or_a_panic() {
    fn panics(what: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(what)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    }
    guarded(|| {
        let array = Array::from_slice(&[1, 2, 3]).unwrap();
        assert_eq!((array.get(2), array.get(3), array.get(usize::MAX)), (Some(3), None, None));
        assert_eq!(panics(|| array.set(3, 0)), "index 3 is out of range for a shared array of 3");
        assert!(panics(|| _ = array.at(usize::MAX)).contains("out of range"));
        assert!(panics(|| array.copy_in(2, &[8, 9])).contains("2 elements from index 2 on are out of range"));
        assert!(panics(|| array.copy_out(4, &mut [])).contains("out of range"));
        assert!(panics(|| array.copy_in(usize::MAX, &[8, 9])).contains("out of range"));
        assert!(panics(|| _ = array.slice(2..5)).contains("out of range"));
        assert!(panics(|| _ = array.slice(..=usize::MAX)).contains("out of range"));
        let (start, end) = (2, 1);
        assert!(panics(|| _ = array.slice(start..end)).contains("ends before it starts"));
        assert_eq!(array.to_vec(), [1, 2, 3]);
    });
}

#[test]
fn a_part_is_the_same_memory_and_keeps_to_its_bounds() {
    guarded(|| {
        let all = Array::from_slice(&[0, 1, 2, 3, 4, 5]).unwrap();
        let part = all.slice(1..5).slice(1..);
        assert_eq!((part.len(), part.to_vec()), (3, vec![2, 3, 4]));
        let there: Array<i32> = cross(&part).unwrap();
        there.set(0, 20);
        there.copy_in(1, &[30, 40]);
        assert_eq!(all.to_vec(), [0, 1, 20, 30, 40, 5]);
        assert_eq!((there.get(3), there.slice(3..).is_empty()), (None, true));
        assert_eq!(there.iter().rev().collect::<Vec<_>>(), [40, 30, 20]);
    });
}

#[test]
fn an_empty_array_is_one() {
    guarded(|| {
        let array = Array::<f64>::new(0).unwrap();
        assert!(array.is_empty() && array.to_vec().is_empty() && array.get(0).is_none());
        array.copy_in(0, &[]);
        assert_eq!(cross::<_, Array<f64>>(&array).unwrap().len(), 0);
    });
}

#[test]
fn more_than_there_is_is_an_error_that_says_so() {
    guarded(|| {
        let error = Array::<u64>::new(usize::MAX).unwrap_err();
        assert!(
            error.to_string().starts_with("make a shared array of 18446744073709551615 elements: "),
            "{error}"
        );
        assert!(Array::<u64>::new(1 << 50).is_err());
    });
}

#[test]
fn another_type_or_part_is_refused() {
    use mp_shm::{Format, Segment};
    guarded(|| {
        let array = Array::<i32>::new(4).unwrap();
        assert!(cross::<_, Array<u32>>(&array).is_err());
        assert!(cross::<_, Array<i64>>(&array).is_err());
        assert!(cross::<_, (mp_shm::Value<i32>, usize, usize)>(&array).is_err());
        let format = Format { kind: *b"ARRY", version: 2, element: 5, element_size: 4 };
        let segment = Segment::create(format, 16).unwrap();
        assert_eq!(cross::<_, Array<i32>>(&(segment.clone(), 1_usize, 4_usize)).unwrap().len(), 3);
        assert!(cross::<_, Array<i32>>(&(segment.clone(), 0_usize, 5_usize)).is_err());
        assert!(cross::<_, Array<i32>>(&(segment, 3_usize, 2_usize)).is_err());
        assert!(cross::<_, Array<i32>>(&(Segment::create(format, 15).unwrap(), 0_usize, 1_usize)).is_err());
    });
}
