fn main() {
    mp_process::init();
    let captured = std::process::id();
    let _ = mp_process::Process::spawn(move |n: u32| n + captured, (2_u32,));
}
