//! Values that do something bad while they cross.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What it does while it crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    None,
    ErrorWhenEncoded,
    ErrorWhenDecoded,
    ExitWhenDecoded,
    CrashWhenDecoded,
    ExitWhenEncoded,
    CrashWhenEncoded,
}

pub(crate) const TRAPS: [Trap; 7] = [
    Trap::None,
    Trap::ErrorWhenEncoded,
    Trap::ErrorWhenDecoded,
    Trap::ExitWhenDecoded,
    Trap::CrashWhenDecoded,
    Trap::ExitWhenEncoded,
    Trap::CrashWhenEncoded,
];

#[expect(clippy::disallowed_methods, reason = "this is what is tested")]
pub(crate) fn exit() -> ! {
    std::process::exit(0)
}

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Trap::ErrorWhenEncoded => return Err(serde::ser::Error::custom("a trap")),
            // Only in a worker: the parent must live.
            Trap::ExitWhenEncoded if mp_pool::worker_index().is_some() => exit(),
            Trap::CrashWhenEncoded if mp_pool::worker_index().is_some() => std::process::abort(),
            _ => {}
        }
        let number = TRAPS.iter().position(|trap| trap == self).unwrap_or(0);
        (number as u64).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Trap, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let trap = *usize::try_from(number).ok().and_then(|number| TRAPS.get(number)).unwrap_or(&Trap::None);
        match trap {
            Trap::ErrorWhenDecoded => Err(serde::de::Error::custom("a trap")),
            Trap::ExitWhenDecoded => exit(),
            Trap::CrashWhenDecoded => std::process::abort(),
            trap => Ok(trap),
        }
    }
}

pub(crate) fn take(_: Trap) {}

pub(crate) fn make(number: u64) -> Trap {
    TRAPS[usize::try_from(number).unwrap()]
}
