//! What a verb ends with.

use std::fmt;
use std::io;

/// A verb's end: it passed, it had nothing to run with, or it failed.
pub(crate) type Outcome = Result<Verdict, Failure>;

/// An end that is not a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of it held.
    Passed,
    /// The tool named here is not installed.
    Skipped(String),
}

/// Why a verb failed, in words.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Failure(text.to_owned())
    }
}

/// Passed when there are no faults; else prints each and fails with their number.
pub(crate) fn from_faults(faults: &[String]) -> Outcome {
    for fault in faults {
        println!("  fault: {fault}");
    }
    match faults.len() {
        0 => Ok(Verdict::Passed),
        1 => Err("1 fault".into()),
        n => Err(format!("{n} faults").into()),
    }
}
