fn double(n: u32) -> u32 {
    n * 2
}

fn main() {
    mp_process::init();
    let pointer: fn(u32) -> u32 = double;
    let _ = mp_process::Process::spawn(pointer, (2_u32,));
}
