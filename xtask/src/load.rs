//! Both cores kept busy: one spinning process per core, ended however we end.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::outcome::Failure;

/// The word that makes this program spin.
pub(crate) const SPIN: &str = "spin-until-stdin-ends";

/// Spins until standard input ends, which it does when the process that started us is gone, however it went.
pub(crate) fn spin() {
    static DONE: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        // An error on standard input is its end too.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        DONE.store(true, Ordering::Relaxed);
    });
    while !DONE.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// The spinning processes; dropping ends them.
pub(crate) struct Load(Vec<Child>);

impl Load {
    /// One process per core.
    pub(crate) fn start() -> Result<Load, Failure> {
        let cores = thread::available_parallelism()?.get();
        let mut load = Load(Vec::with_capacity(cores));
        for _ in 0..cores {
            let mut command = Command::new(std::env::current_exe()?);
            load.0.push(command.arg(SPIN).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Closing its input ends it; the kill is for one that was stopped. One already gone is fine.
            drop(child.stdin.take());
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
