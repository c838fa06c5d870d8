//! A program with functions in a shared library.

use mp_process::Process;

fn main() {
    mp_process::init();
    // The library's own function, started here and there; a generic one, whose code lies in the program.
    assert_eq!(Process::spawn(shared_library::double, (21,)).expect("started").join().expect("a result"), 42);
    assert_eq!(shared_library::start(1).expect("started").join().expect("a result"), 2);
    let process = Process::spawn(shared_library::largest::<i8>, (vec![3, -4],)).expect("started");
    assert_eq!(process.join().expect("a result"), Some(3));
    let mapped = std::fs::read_to_string("/proc/self/maps").expect("readable");
    assert!(mapped.contains("libshared_library.so"), "it is shared");
}
