fn show(text: String) {
    println!("{text}");
}

fn main() {
    mp_process::init();
    let text = "x".to_owned();
    let _ = mp_process::Process::spawn(show, text);
}
