//! What every failure carries: the verb and the object, in front of the system's own words.

use std::error::Error;
use std::{fmt, io};

/// An error of the system with what was being done in front; its source is the error itself.
#[derive(Debug)]
struct Failed {
    what: String,
    source: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Says what was being done when the system refused; the kind stays.
pub(crate) fn during<T>(result: io::Result<T>, what: impl FnOnce() -> String) -> io::Result<T> {
    result.map_err(|source| io::Error::new(source.kind(), Failed { what: what(), source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_stands_in_front_and_the_system_behind() {
        let error = during::<()>(Err(io::Error::from_raw_os_error(28)), || "make x".into()).unwrap_err();
        assert!(error.to_string().starts_with("make x: No space left"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let inner = error.get_ref().and_then(|failed| failed.source()).unwrap();
        assert_eq!(inner.downcast_ref::<io::Error>().unwrap().raw_os_error(), Some(28));
    }
}
