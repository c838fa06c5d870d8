fn main() {
    mp_process::init();
    let text = "x".to_owned();
    let _ = mp_process::Process::spawn(move || text.len(), ());
}
