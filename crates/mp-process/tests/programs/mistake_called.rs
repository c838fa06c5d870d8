fn double(n: u32) -> u32 {
    n * 2
}

fn main() {
    mp_process::init();
    let _ = mp_process::Process::spawn(double(2), (2_u32,));
}
