fn show(text: String) {
    println!("{text}");
}

fn main() {
    mp_process::init();
    let _ = mp_process::Process::spawn(show("x".to_owned()), ());
}
