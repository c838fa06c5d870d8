//! Too little of something is an error when memory is made, not a signal later; signals hold nothing up.

#![expect(unsafe_code, reason = "a signal handler and the signals for it")]

use mp_shm::{Array, Frozen, FrozenWriter, Pages, SharedMemory, Value};
use mp_test::{Role, command, guarded};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// In a role: runs `test` in a process of its own, whose limits it may change.
fn in_a_process(me: &str, test: impl FnOnce()) {
    if mp_test::role().is_some() {
        return test();
    }
    guarded(|| assert!(Role::start(command(me, "limited")).wait().success()));
}

fn limit(resource: Resource, most: u64) {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).expect("a lower limit");
}

/// The kernel would kill by SIGXFSZ.
#[test]
fn more_than_the_limit_on_files_is_an_error() {
    in_a_process("more_than_the_limit_on_files_is_an_error", || {
        limit(Resource::Fsize, 1 << 20);
        let errors = [
            Array::<u64>::new(1 << 20).unwrap_err(),
            Array::<u64>::with_huge_pages(1 << 20).unwrap_err(),
            FrozenWriter::<u8>::new(1 << 21).unwrap_err(),
            FrozenWriter::<u8>::with_huge_pages(1 << 23).unwrap_err(),
            Frozen::from_slice(&vec![1_u8; 1 << 21]).unwrap_err(),
            SharedMemory::create("mp-test-fsize", 1 << 21).unwrap_err().into(),
        ];
        for error in errors {
            assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
            assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
        }
        assert!(Array::<u64>::new(1 << 10).is_ok());
    });
}

#[test]
fn more_than_the_address_space_is_an_error() {
    in_a_process("more_than_the_address_space_is_an_error", || {
        limit(Resource::As, 512 << 20);
        let small = Array::<u8>::new(1 << 20).unwrap();
        assert!(Array::<u8>::new(600 << 20).is_err());
        assert!(Array::<u8>::with_huge_pages(600 << 20).is_err());
        assert!(FrozenWriter::<u8>::with_huge_pages(600 << 20).is_err());
        small.fill(1);
        assert!(Array::<u8>::new(1 << 20).is_ok());
    });
}

#[test]
fn no_descriptor_left_is_an_error() {
    in_a_process("no_descriptor_left_is_an_error", || {
        limit(Resource::Nofile, 20);
        let mut values = Vec::new();
        let error = loop {
            match Value::new(1) {
                Ok(value) => values.push(value),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("make a shared value"), "{error}");
        assert!(Frozen::from_slice(&[1]).is_err());
        assert!(values.iter().all(|value| value.get() == 1));
        values.pop();
        assert!(Value::new(1).is_ok());
    });
}

/// The kernel gives back what it has allocated when a signal comes: a large allocation under a fast timer would never end.
#[test]
fn a_hail_of_signals_holds_no_allocation_up() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_: libc::c_int) {
        SEEN.fetch_add(1, Relaxed);
    }
    in_a_process("a_hail_of_signals_holds_no_allocation_up", || {
        // SAFETY: the handler touches nothing but an atomic.
        unsafe { libc::signal(libc::SIGUSR1, count as *const () as libc::sighandler_t) };
        // SAFETY: takes nothing, answers this thread's own id.
        let target = unsafe { libc::pthread_self() };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    // SAFETY: the thread is alive until `done` is set, and this one is joined before it ends.
                    unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
            });
            let array = Array::<u64>::new(32 << 20);
            let frozen = Frozen::build(64 << 20, |bytes: &mut [u8]| bytes.fill(7));
            done.store(true, Relaxed);
            assert_eq!((array.unwrap().len(), frozen.unwrap()[(64 << 20) - 1]), (32 << 20, 7));
        });
        assert!(SEEN.load(Relaxed) > 0);
    });
}

/// Huge pages are given where there are some, and where there are none the memory is as good; either way it says so.
#[test]
fn huge_pages_or_not_the_memory_is_there() {
    guarded(|| {
        let array = Array::<u64>::with_huge_pages(1 << 20).unwrap();
        array.prefault().unwrap();
        array.set((1 << 20) - 1, 7);
        let mut writer = FrozenWriter::<u32>::with_huge_pages(3 << 20).unwrap();
        assert!(writer.iter().all(|element| *element == 0));
        writer.prefault().unwrap();
        writer[5] = 5;
        let frozen = writer.freeze().unwrap();
        frozen.prefault().unwrap();
        assert_eq!((frozen.len(), frozen[5], array.get((1 << 20) - 1)), (3 << 20, 5, Some(7)));
        for (pages, size) in [(array.pages(), 8 << 20), (frozen.pages(), 12 << 20)] {
            match pages {
                Pages::Ordinary => eprintln!("mp-shm: this machine has no huge pages for shared memory"),
                Pages::Transparent { bytes } => assert!((1..=size).contains(&bytes), "{bytes}"),
                Pages::Reserved { size } => assert!(size.is_power_of_two()),
                other => panic!("{other:?}"),
            }
        }
        // Too small for a huge page.
        assert!(!matches!(Array::<u8>::with_huge_pages(1).unwrap().pages(), Pages::Transparent { .. }));
        assert_eq!(Array::<u8>::new(1).unwrap().pages(), Pages::Ordinary);
    });
}
