//! How a process ended.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a process ended.
///
/// Python's `exitcode` is [`python_code`](ExitStatus::python_code): zero, the code, or the negated signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code. A function that returned, whatever it returned, exits with 0; one that panicked with 101.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Its number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core: bool,
    },
    /// Somebody else has reaped it: SIGCHLD is ignored, or a foreign `waitpid(-1)` took the status.
    Unknown,
}

impl ExitStatus {
    /// Whether it exited with code 0.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, ExitStatus::Code(0))
    }

    /// The code, if it exited with one.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        if let ExitStatus::Code(code) = self { Some(code) } else { None }
    }

    /// The signal, if one ended it.
    #[must_use]
    pub const fn signal(self) -> Option<i32> {
        if let ExitStatus::Signal { number, .. } = self { Some(number) } else { None }
    }

    /// As Python counts: the code, or the negated signal; `None` when unknown.
    #[doc(alias = "exitcode")]
    #[must_use]
    pub const fn python_code(self) -> Option<i32> {
        match self {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal { number, .. } => Some(-number),
            ExitStatus::Unknown => None,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal { number, core } => {
                write!(
                    f,
                    "signal {number} ({}){}",
                    signal_name(*number),
                    if *core { ", core dumped" } else { "" }
                )
            }
            ExitStatus::Unknown => f.write_str("an exit status that somebody else has taken"),
        }
    }
}

fn signal_name(number: i32) -> &'static str {
    match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => "another signal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_counts_signals_below_zero() {
        assert_eq!(ExitStatus::Code(3).python_code(), Some(3));
        assert_eq!(ExitStatus::Signal { number: 9, core: false }.python_code(), Some(-9));
        assert_eq!(ExitStatus::Signal { number: 9, core: false }.to_string(), "signal 9 (SIGKILL)");
    }
}
