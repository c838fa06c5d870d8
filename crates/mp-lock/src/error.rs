//! Why a lock was not acquired.

use crate::raw::RawLockError;
use std::error::Error;
use std::{fmt, io};

/// Why a lock was not acquired, without the guard that may have come with the news: small, comparable, and free to travel.
///
/// Every error of acquiring turns into one, with `into_owned` or by `?`. A guard that the error carried is dropped then:
/// the lock is free again, and the next one to acquire it gets the same news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// A holder died, and nobody has marked the lock as recovered since.
    OwnerDied,
    /// The calling thread holds it already; waiting would last for ever.
    AlreadyHeld,
    /// Somebody else holds it now.
    Held,
    /// Somebody else held it until the time was over.
    TimedOut,
    /// As many as can be kept track of share it already.
    TooMany,
    /// The system refused, with this error number.
    Os(i32),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied => f.write_str(
                "the holder of the lock died, and what it guards may be half-changed: repair it and call `mark_recovered`",
            ),
            LockError::AlreadyHeld => f.write_str("the lock is held by this thread already"),
            LockError::Held => f.write_str("the lock is held by another"),
            LockError::TimedOut => f.write_str("the lock was held by another until the time was over"),
            LockError::TooMany => f.write_str("the lock is shared by as many as it can keep track of"),
            LockError::Os(errno) => write!(f, "acquire a lock: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl Error for LockError {}

impl From<LockError> for io::Error {
    fn from(error: LockError) -> io::Error {
        let kind = match error {
            LockError::OwnerDied | LockError::TooMany => io::ErrorKind::Other,
            LockError::AlreadyHeld => io::ErrorKind::Deadlock,
            LockError::Held => io::ErrorKind::WouldBlock,
            LockError::TimedOut => io::ErrorKind::TimedOut,
            LockError::Os(errno) => return io::Error::from_raw_os_error(errno),
        };
        io::Error::new(kind, error)
    }
}

/// What stopped an acquisition below the news about a dead holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotNow,
    AlreadyHeld,
    TooMany,
    Os(i32),
}

impl From<RawLockError> for Refusal {
    fn from(error: RawLockError) -> Refusal {
        match error {
            RawLockError::TimedOut => Refusal::NotNow,
            RawLockError::AlreadyHeld => Refusal::AlreadyHeld,
            RawLockError::NotRecoverable => Refusal::Os(libc::ENOTRECOVERABLE),
            RawLockError::Os(errno) => Refusal::Os(errno),
        }
    }
}

macro_rules! acquire_error {
    ($(#[$doc:meta])* $name:ident $(, $(#[$variant_doc:meta])* $variant:ident)?) => {
        $(#[$doc])*
        #[non_exhaustive]
        pub enum $name<G> {
            /// The lock is ours, with the news that a holder died and nobody has marked it as recovered since: what it
            /// guards may be half-changed.
            OwnerDied(G),
            $($(#[$variant_doc])* $variant,)?
            /// The calling thread holds it already; waiting would last for ever.
            AlreadyHeld,
            /// As many as can be kept track of share it already.
            TooMany,
            /// The system refused, with this error number.
            Os(i32),
        }

        impl<G> $name<G> {
            /// The guard that came with the news of a death.
            ///
            /// # Errors
            ///
            /// When there was no such news: what went wrong instead.
            pub fn into_guard(self) -> Result<G, LockError> {
                match self {
                    $name::OwnerDied(guard) => Ok(guard),
                    other => Err(other.kind()),
                }
            }

            /// The same without the guard, so that it may travel: `'static + Send + Sync`. A guard is dropped, and the
            /// news goes to the next one to acquire the lock.
            #[must_use]
            pub fn into_owned(self) -> LockError {
                self.kind()
            }

            fn kind(&self) -> LockError {
                match self {
                    $name::OwnerDied(_) => LockError::OwnerDied,
                    $($name::$variant => LockError::$variant,)?
                    $name::AlreadyHeld => LockError::AlreadyHeld,
                    $name::TooMany => LockError::TooMany,
                    $name::Os(errno) => LockError::Os(*errno),
                }
            }

            pub(crate) fn refused(refusal: Refusal) -> $name<G> {
                match refusal {
                    Refusal::NotNow => acquire_error!(@not_now $name $($variant)?),
                    Refusal::AlreadyHeld => $name::AlreadyHeld,
                    Refusal::TooMany => $name::TooMany,
                    Refusal::Os(errno) => $name::Os(errno),
                }
            }

            /// The same about a guard made of this one.
            #[allow(dead_code, reason = "not every form of acquiring has a guard made of another")]
            pub(crate) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> $name<H> {
                match self {
                    $name::OwnerDied(guard) => $name::OwnerDied(wrap(guard)),
                    $($name::$variant => $name::$variant,)?
                    $name::AlreadyHeld => $name::AlreadyHeld,
                    $name::TooMany => $name::TooMany,
                    $name::Os(errno) => $name::Os(errno),
                }
            }
        }

        impl<G> fmt::Debug for $name<G> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.kind(), f)
            }
        }

        impl<G> fmt::Display for $name<G> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.kind(), f)
            }
        }

        impl<G> Error for $name<G> {}

        impl<G> From<$name<G>> for LockError {
            fn from(error: $name<G>) -> LockError {
                error.kind()
            }
        }
    };
    // Waiting for ever never ends by the clock.
    (@not_now $name:ident) => { $name::Os(libc::ETIMEDOUT) };
    (@not_now $name:ident $variant:ident) => { $name::$variant };
}

acquire_error! {
    /// Why `acquire` did not give a lock in good order.
    AcquireError
}
acquire_error! {
    /// Why `try_acquire` did not give a lock in good order.
    TryAcquireError,
    /// Somebody else holds it now. May change at any time.
    Held
}
acquire_error! {
    /// Why `acquire_timeout` or `acquire_deadline` did not give a lock in good order.
    AcquireTimeoutError,
    /// Somebody else held it until the time was over.
    TimedOut
}
