//! Errors that cross as what they say.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fmt;

/// Any error, as it can cross to another process: its type's name, its message, and those of its sources.
///
/// A function that runs in another process can return `Result<T, RemoteError>` and use `?` on everything that implements
/// [`Error`], serde or not. Like `anyhow`'s, it does not implement `Error` itself, but `?` turns it into a boxed one.
///
/// ```
/// use mp_process::RemoteError;
///
/// fn task(text: String) -> Result<i32, RemoteError> {
///     Ok(text.parse::<i32>()?)
/// }
///
/// let error = task("x".into()).unwrap_err();
/// assert_eq!(error.kind(), "core::num::error::ParseIntError");
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteError {
    kind: String,
    message: String,
    sources: Vec<String>,
}

impl RemoteError {
    /// An error that has only a message.
    pub fn new(message: impl Into<String>) -> RemoteError {
        RemoteError { kind: "message".into(), message: message.into(), sources: Vec::new() }
    }

    /// The name of the error's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The messages of its sources, outermost first.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
}

impl<E: Error> From<E> for RemoteError {
    fn from(error: E) -> RemoteError {
        let sources =
            std::iter::successors(error.source(), |source: &&(dyn Error + 'static)| (*source).source());
        RemoteError {
            kind: std::any::type_name::<E>().into(),
            message: error.to_string(),
            sources: sources.map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.kind)?;
        self.sources.iter().try_for_each(|source| write!(f, "\ncaused by: {source}"))
    }
}

/// The boxed form.
struct Boxed(RemoteError);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Error for Boxed {}

impl From<RemoteError> for Box<dyn Error + Send + Sync> {
    fn from(error: RemoteError) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<RemoteError> for Box<dyn Error + Send> {
    fn from(error: RemoteError) -> Self {
        Box::new(Boxed(error))
    }
}

impl From<RemoteError> for Box<dyn Error> {
    fn from(error: RemoteError) -> Self {
        Box::new(Boxed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_sources_is_kept() {
        let inner = "x".parse::<i32>().unwrap_err();
        let outer = std::io::Error::other(Wrap(inner));
        let error = RemoteError::from(outer);
        assert_eq!(error.sources(), ["invalid digit found in string"]);
        let boxed: Box<dyn Error> = error.into();
        assert_eq!(boxed.to_string(), "wrapped");
    }

    #[derive(Debug)]
    struct Wrap(std::num::ParseIntError);

    impl fmt::Display for Wrap {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrap {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
}
