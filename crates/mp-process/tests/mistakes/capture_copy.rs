fn main() {
    mp_process::init();
    let n = std::env::args().count();
    // A number, so that the closure is `Copy`: only its size gives it away.
    let _ = mp_process::Process::spawn(move || n + 1, ());
}
