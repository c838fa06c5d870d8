//! How an end goes into a message and comes out of it: by moving.

use crate::link::{Leaving, Link, Unusable};
use crate::packet::{Arrived, Inbox};
use mp_core::handle::{deserialize_fd, serialize_fd};
use mp_shm::{Format, Growable};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Serialises the end with `link` and `memory`; `side` tells which one it is.
pub(crate) fn depart<S: Serializer>(
    serializer: S,
    link: &Link,
    memory: &Growable,
    side: u8,
) -> Result<S::Ok, S::Error> {
    let (fd, leaving, arrived) = link.depart().map_err(|_: Unusable| {
        ser::Error::custom("this end of a pipe was sent to another process already; an end has one user")
    })?;
    let mut parts = serializer.serialize_tuple(4)?;
    parts.serialize_element(memory)?;
    parts.serialize_element(&Socket { fd, leaving: RefCell::new(Some(leaving)) })?;
    parts.serialize_element(&side)?;
    parts.serialize_element(&arrived)?;
    parts.end()
}

struct Socket {
    fd: Arc<OwnedFd>,
    leaving: RefCell<Option<Leaving>>,
}

impl Serialize for Socket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let leaving = self.leaving.take().ok_or_else(|| ser::Error::custom("an end travels once"))?;
        serialize_fd(serializer, &self.fd, Some(Box::new(leaving)))
    }
}

/// An end as it arrives.
pub(crate) struct Arrival {
    pub(crate) memory: Growable,
    pub(crate) link: Link,
    pub(crate) side: u8,
}

struct Descriptor(OwnedFd);

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Descriptor, D::Error> {
        deserialize_fd(deserializer).map(Descriptor)
    }
}

/// Takes an end out of a message, if its memory has `format`.
pub(crate) fn arrive<'de, D: Deserializer<'de>>(
    deserializer: D,
    format: Format,
    fixed: usize,
) -> Result<Arrival, D::Error> {
    type Parts = (Descriptor, Descriptor, u8, Arrived);
    let (memory, socket, side, arrived) = Parts::deserialize(deserializer)?;
    let memory = Growable::open(memory.0, format, fixed).map_err(de::Error::custom)?;
    if !memory.same_pid_namespace() {
        return Err(de::Error::custom(
            "an end of a pipe from another pid namespace: its user could not be told",
        ));
    }
    Ok(Arrival { memory, link: Link::new(socket.0, Inbox::with(arrived)), side })
}
