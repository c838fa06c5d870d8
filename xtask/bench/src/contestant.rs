//! Who takes part in a row, and what becomes of its measurement.

use std::fmt;

use crate::meter::Meter;

/// Any error: it ends as a line in the table.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One line of a row's table.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Sets up, hands its loop to the meter, and leaves nothing behind.
    pub(crate) measure: fn(&mut Meter) -> Measured,
}

impl Contestant {
    pub(crate) const fn ours(
        name: &'static str,
        limit: &'static str,
        measure: fn(&mut Meter) -> Measured,
    ) -> Self {
        Self { name, kind: Kind::Ours { limit }, measure }
    }

    pub(crate) const fn limit(name: &'static str, measure: fn(&mut Meter) -> Measured) -> Self {
        Self { name, kind: Kind::Limit, measure }
    }

    pub(crate) const fn peer(name: &'static str, measure: fn(&mut Meter) -> Measured) -> Self {
        Self { name, kind: Kind::Peer, measure }
    }

    pub(crate) const fn threads(name: &'static str, measure: fn(&mut Meter) -> Measured) -> Self {
        Self { name, kind: Kind::Threads, measure }
    }

    pub(crate) const fn python(name: &'static str, measure: fn(&mut Meter) -> Measured) -> Self {
        Self { name, kind: Kind::Python, measure }
    }
}

/// What a contestant is to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of this project's crates, judged beside the limit of this name.
    Ours { limit: &'static str },
    /// Made by hand for this one row, without safety against deaths: what the machine gives.
    Limit,
    /// Another crate, or the system's own means, between processes.
    Peer,
    /// Threads of one process: what giving up isolation would gain.
    Threads,
    /// Python's `multiprocessing`.
    Python,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ours { .. } => "ours",
            Self::Limit => "limit",
            Self::Peer => "peer",
            Self::Threads => "threads",
            Self::Python => "Python",
        }
    }
}

/// What a contestant's `measure` gives; the figures are in the meter.
pub(crate) type Measured = Result<(), Stop>;

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something that this machine does not have.
    Skipped(String),
    /// It did not work.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
        }
    }
}
