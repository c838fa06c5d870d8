//! A program whose file is deleted while it runs, and then replaced by another one.

use mp_process::Process;
use std::fs;

fn answer() -> u32 {
    42
}

fn main() {
    mp_process::init();
    let own = std::env::current_exe().expect("a path");
    if std::env::args().nth(1).as_deref() != Some("copied") {
        // Not the file that cargo has built.
        let copy = own.with_extension(std::process::id().to_string());
        fs::copy(&own, &copy).expect("a copy");
        let status = std::process::Command::new(&copy).arg("copied").status().expect("the copy");
        let _ = fs::remove_file(&copy);
        assert!(status.success());
        return;
    }
    fs::remove_file(&own).expect("deleted");
    assert_eq!(Process::spawn(answer, ()).expect("started").join().expect("a result"), 42);
    fs::write(&own, "something else").expect("replaced");
    assert_eq!(Process::spawn(answer, ()).expect("started").join().expect("a result"), 42);
}
