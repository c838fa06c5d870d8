//! A program in which a panic aborts.

use mp_process::{JoinError, Process};

fn fail() {
    panic!("in the function")
}

fn fail_in_a_thread() {
    let _ = std::thread::spawn(|| panic!("in a thread")).join();
}

fn main() {
    mp_process::init();
    let quiet = Process::builder().core_dump(false);
    for (process, expected) in [
        (quiet.spawn(fail, ()).expect("started"), "in the function"),
        (quiet.spawn(fail_in_a_thread, ()).expect("started"), "in a thread"),
    ] {
        assert_eq!(process.wait().expect("a status").signal(), Some(6));
        match process.join() {
            Err(JoinError::Panicked(panic)) => assert_eq!(panic.message, expected),
            other => panic!("{other:?}"),
        }
    }
}
