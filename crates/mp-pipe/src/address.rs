//! Where a listener is found.

use interprocess::local_socket::{GenericFilePath, GenericNamespaced, Name, prelude::*};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where a [`Listener`](crate::Listener) is found: a path, or a name that lives in the kernel alone.
///
/// A string is a path, or with a leading `'\0'` a name, as in Python:
///
/// ```
/// use mp_pipe::Address;
/// assert_eq!(Address::from("/run/app.sock"), Address::path("/run/app.sock"));
/// assert_eq!(Address::from("\0app"), Address::name("app"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Place {
    Path(PathBuf),
    Name(String),
}

impl Address {
    /// A socket in the file system. Whoever may write to it may connect.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Address {
        Address(Place::Path(path.into()))
    }

    /// A name in the kernel ("abstract"): it is gone with its listener, however that one ends. It has no permissions, and it
    /// is seen in one network namespace.
    #[must_use]
    pub fn name(name: impl Into<String>) -> Address {
        Address(Place::Name(name.into()))
    }

    /// A name that nobody else has.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn unique() -> io::Result<Address> {
        let random = crate::auth::random::<16>()?;
        Ok(Address::name(format!("mp-pipe-{:032x}", u128::from_ne_bytes(random))))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    /// The same, as the socket library names it.
    pub(crate) fn to_name(&self) -> io::Result<Name<'_>> {
        match &self.0 {
            Place::Path(path) => path.as_path().to_fs_name::<GenericFilePath>(),
            Place::Name(name) => name.as_str().to_ns_name::<GenericNamespaced>(),
        }
    }
}

impl fmt::Display for Address {
    /// The path; a name with `@` in front, as `ss` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Path(path) => path.display().fmt(f),
            Place::Name(name) => write!(f, "@{name}"),
        }
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Address {
        text.strip_prefix('\0').map_or_else(|| Address::path(text), Address::name)
    }
}

impl From<String> for Address {
    fn from(text: String) -> Address {
        Address::from(text.as_str())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::path(path)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::path(path)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        address.clone()
    }
}
