//! A child that writes more than a pipe holds, and reads to the end, with a parent that only joins.

use mp_process::{Process, Stdio};
use std::io::Read;

fn talk() -> usize {
    let mut heard = Vec::new();
    std::io::stdin().read_to_end(&mut heard).expect("an end");
    for n in 0..50_000 {
        println!("line {n}");
        eprintln!("line {n}");
    }
    heard.len()
}

fn main() {
    mp_process::init();
    let builder = Process::builder().stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped);
    assert_eq!(builder.spawn(talk, ()).expect("started").join().expect("a result"), 0);
}
