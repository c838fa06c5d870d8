//! No mistake: what is refused beside it is refused for its mistake.

fn show(text: String) {
    println!("{text}");
}

fn main() {
    mp_process::init();
    let _ = mp_process::Process::spawn(show, ("x".to_owned(),));
}
