struct Plain;

fn take(_: Plain) {}

fn main() {
    mp_process::init();
    let _ = mp_process::Process::spawn(take, (Plain,));
}
