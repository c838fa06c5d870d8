//! Threads that keep standard output locked, as printers do: here while a process is started, there while it ends.

use mp_process::Process;
use std::sync::mpsc;

fn lock_and_return() -> u32 {
    let (locked, lock) = mpsc::channel();
    std::thread::spawn(move || {
        let _kept = std::io::stdout().lock();
        locked.send(()).expect("the function waits");
        loop {
            std::thread::park();
        }
    });
    lock.recv().expect("locked");
    7
}

fn main() {
    mp_process::init();
    let (locked, lock) = mpsc::channel();
    let (started, start) = mpsc::channel::<()>();
    let printer = std::thread::spawn(move || {
        let _kept = std::io::stdout().lock();
        locked.send(()).expect("main waits");
        start.recv().expect("main sends");
    });
    lock.recv().expect("locked");
    let process = Process::spawn(lock_and_return, ()).expect("started");
    assert_eq!(process.join().expect("a result"), 7);
    started.send(()).expect("the printer waits");
    printer.join().expect("the printer");
}
