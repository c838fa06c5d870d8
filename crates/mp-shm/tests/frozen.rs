//! `Frozen`: written once, read by everybody.

mod common;

use common::cross;
use mp_shm::{Frozen, FrozenWriter};
use mp_test::guarded;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn smoke() {
    guarded(|| {
        let frozen = Frozen::from_slice(b"ice").unwrap();
        assert_eq!(&*frozen, b"ice");
        assert_eq!(&*frozen.clone(), &*cross::<_, Frozen<u8>>(&frozen).unwrap());
    });
}

#[test]
fn numbers_arrays_and_structs_of_them_are_kept() {
    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C)]
    struct Point {
        at: [f32; 3],
        id: u32,
    }
    guarded(|| {
        let points: Vec<Point> = (0..1000).map(|id| Point { at: [id as f32; 3], id }).collect();
        let frozen: Frozen<Point> = cross(&Frozen::from_slice(&points).unwrap()).unwrap();
        assert_eq!(&*frozen, &points[..]);
        assert_eq!(&*Frozen::from_slice(&[[1_u8, 2], [3, 4]]).unwrap(), [[1, 2], [3, 4]]);
        assert_eq!(&*Frozen::<u64>::from_slice(&[]).unwrap(), []);
    });
}

#[test]
fn a_writer_fills_zeroed_memory_in_place() {
    guarded(|| {
        let mut writer = FrozenWriter::<u32>::new(100_000).unwrap();
        assert!(writer.iter().all(|element| *element == 0));
        writer[99_999] = 5;
        let frozen = writer.freeze().unwrap();
        assert_eq!((frozen.len(), frozen[0], frozen[99_999]), (100_000, 0, 5));
    });
}

#[test]
fn nobody_can_change_it() {
    guarded(|| {
        let frozen = Frozen::from_slice(b"ice").unwrap();
        let mut file = File::from(frozen.as_fd().try_clone_to_owned().unwrap());
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
        assert!(memmap2::MmapOptions::new().map_raw(&file).is_err());
        assert_eq!(&*frozen, b"ice");
    });
}

#[test]
fn a_writer_that_is_dropped_or_panics_leaves_nothing() {
    guarded(|| {
        drop(FrozenWriter::<u8>::new(1 << 20).unwrap());
        let panicking = || Frozen::build(1 << 20, |_: &mut [u8]| panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    });
}

#[test]
fn another_type_is_refused() {
    guarded(|| {
        let frozen = Frozen::from_slice(&[1_u32, 2]).unwrap();
        assert!(cross::<_, Frozen<i32>>(&frozen).is_err());
        assert!(cross::<_, Frozen<u8>>(&frozen).is_err());
        assert!(cross::<_, Frozen<[u16; 2]>>(&frozen).is_err());
        assert!(cross::<_, mp_shm::Value<u32>>(&frozen).is_err());
        assert_eq!(&*cross::<_, Frozen<u32>>(&frozen).unwrap(), [1, 2]);
    });
}

#[test]
fn an_array_or_a_file_is_no_frozen_slice() {
    guarded(|| {
        let segment = mp_shm::Value::new(1_u32).unwrap();
        assert!(cross::<_, Frozen<u32>>(&segment).is_err());
        let file = mp_core::Passed(File::open("/dev/null").unwrap());
        assert!(cross::<_, Frozen<u32>>(&file).is_err());
    });
}

#[test]
fn more_than_there_is_is_an_error_that_says_so() {
    guarded(|| {
        let error = FrozenWriter::<u64>::new(usize::MAX).unwrap_err();
        assert!(error.to_string().starts_with("make room for"), "{error}");
        assert!(Frozen::build(1 << 50, |_: &mut [u64]| ()).is_err());
    });
}

/// Forked children of other threads hold writable mappings for a moment; freezing succeeds all the same.
#[test]
fn freezing_beside_threads_that_start_programs() {
    guarded(|| {
        std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                for _ in 0..20 {
                    assert!(std::process::Command::new("true").status().unwrap().success());
                }
            });
            while !starter.is_finished() {
                assert_eq!(Frozen::build(4, |new: &mut [u8]| new.fill(7)).unwrap()[3], 7);
            }
        });
    });
}
