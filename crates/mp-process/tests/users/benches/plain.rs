//! A bench with a `main` of its own, as criterion's and divan's are.

use mp_process::Process;

mp_process::enable_test_support!();

fn main() {
    for n in 0..3 {
        assert_eq!(Process::spawn(users::double, (n,)).unwrap().join().unwrap(), 2 * n);
    }
    println!("a bench with processes");
}
