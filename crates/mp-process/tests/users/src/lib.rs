//! A user's crate with processes in its unit tests, integration tests, benches, doctests and an example.
//!
//! ```standalone_crate
//! use mp_process::Process;
//!
//! fn triple(n: u32) -> u32 {
//!     3 * n
//! }
//!
//! fn main() {
//!     mp_process::init();
//!     assert_eq!(Process::spawn(triple, (2,)).unwrap().join().unwrap(), 6);
//!     println!("a doctest with a process");
//! }
//! ```

pub fn double(n: u32) -> u32 {
    2 * n
}

#[cfg(test)]
mod tests {
    use super::double;
    use mp_process::Process;

    mp_process::enable_test_support!();

    #[test]
    fn a_process_in_a_unit_test() {
        assert_eq!(Process::spawn(double, (21,)).unwrap().join().unwrap(), 42);
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panic_of_a_process_in_a_unit_test() {
        fn fail() {
            panic!("on purpose");
        }
        Process::spawn(fail, ()).unwrap().join().unwrap();
    }

    #[test]
    fn many_at_once() {
        let processes: Vec<_> = (0..8).map(|n| Process::spawn(double, (n,)).unwrap()).collect();
        for (n, process) in (0..).zip(processes) {
            assert_eq!(process.join().unwrap(), 2 * n);
        }
    }
}
