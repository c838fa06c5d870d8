//! Everything that depends on how a program is built: finding functions, panics, crashes, handles, each start method.

use mp_process::{ForkServer, JoinError, Passed, Process, StartMethod, Stdio};
use std::fs::File;
use std::io::Read;

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

fn fail() {
    panic!("on purpose");
}

fn abort() {
    std::process::abort();
}

fn read(file: Passed<File>) -> usize {
    let mut bytes = Vec::new();
    file.into_inner().take(100).read_to_end(&mut bytes).expect("readable");
    bytes.len()
}

fn surroundings() -> (usize, usize) {
    (std::env::args_os().count(), std::env::vars_os().map(|(_, value)| value.len()).sum())
}

fn nest(depth: u32) -> u32 {
    if depth == 0 { 0 } else { 1 + Process::spawn(nest, (depth - 1,)).expect("started").join().expect("a result") }
}

fn main() {
    mp_process::init();
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let builder = Process::builder().start_method(method).core_dump(false).stderr(Stdio::Tail(4000));
        assert_eq!(builder.spawn(add, (2, 3)).expect("started").join().expect("a result"), 5);
        assert_eq!(builder.spawn(|n: u64| n + 1, (1,)).expect("started").join().expect("a result"), 2);
        let words = vec!["a".to_owned(), "b".to_owned()];
        let process = builder.spawn(largest::<String>, (words,)).expect("started");
        assert_eq!(process.join().expect("a result").as_deref(), Some("b"));
        assert_eq!(builder.spawn(nest, (2,)).expect("started").join().expect("a result"), 2);
        let file = File::open("/proc/self/exe").expect("open");
        assert_eq!(builder.spawn(read, (Passed(file),)).expect("started").join().expect("a result"), 100);
        assert_eq!(builder.spawn(surroundings, ()).expect("started").join().expect("a result"), surroundings());
        match builder.spawn(fail, ()).expect("started").join() {
            Err(JoinError::Panicked(panic)) => assert_eq!(panic.message, "on purpose"),
            other => panic!("{method:?}: {other:?}"),
        }
        match builder.spawn(abort, ()).expect("started").join() {
            Err(JoinError::Signal { number: 6, core: false, .. }) => {}
            other => panic!("{method:?}: {other:?}"),
        }
    }
    ForkServer::stop();
}
