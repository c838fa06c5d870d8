//! What several tests use: a gate at which a child waits.

#![allow(dead_code, reason = "each test binary uses its part")]

use mp_process::Passed;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::path::Path;

/// The child's side of a gate, and this side: the child stands there until this side is dropped.
pub(crate) fn gate() -> (Passed<PipeReader>, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    (Passed(reader), writer)
}

/// Stands at the gate, then gives the own pid.
pub(crate) fn stand(gate: Passed<PipeReader>) -> u32 {
    gate.into_inner().read_to_end(&mut Vec::new()).unwrap();
    std::process::id()
}

/// Whether the process is there, be it as a zombie.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
