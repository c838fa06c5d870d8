//! A program into which a library brings a thread before `main`, as profilers and sanitizers do.

use mp_process::{Process, SpawnError};

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn start_a_thread() {
        std::thread::spawn(|| {
            loop {
                std::thread::park();
            }
        });
    }
    start_a_thread
};

fn own_pid() -> u32 {
    std::process::id()
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("strict") {
        mp_process::init();
        match Process::spawn(own_pid, ()) {
            Err(SpawnError::Refused(why)) => assert!(why.contains("init_beside_threads"), "{why}"),
            other => panic!("{other:?}"),
        }
        return;
    }
    mp_process::init_beside_threads();
    let process = Process::spawn(own_pid, ()).expect("started");
    let pid = process.pid();
    assert_eq!(process.join().expect("a result"), pid);
    let own = std::env::current_exe().expect("a path");
    let strict = std::process::Command::new(own).arg("strict").status().expect("itself");
    assert!(strict.success());
}
