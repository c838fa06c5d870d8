//! Bells as descriptors: what `poll`, epoll and async runtimes sleep on. When they are rung is in [`raw::bell`](crate::raw::bell).

use mp_core::Handle;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An eventfd that all processes of a queue share: readable from a ring until somebody silences it.
#[derive(Clone, Debug)]
pub(crate) struct Bell(Handle);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Bell(Handle::from(eventfd(0, flags)?)))
    }

    pub(crate) fn ring(&self) {
        // It fails only when it was rung 2⁶⁴ times and never silenced, and is readable then.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // It fails only when it was silent.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Bell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bell, D::Error> {
        let handle = Handle::deserialize(deserializer)?;
        // It is used under a lock, where nobody may sleep.
        match fcntl_getfl(&handle) {
            Ok(flags) if flags.contains(OFlags::NONBLOCK) => Ok(Bell(handle)),
            _ => Err(de::Error::custom("a bell of a queue that may block")),
        }
    }
}

/// One descriptor that is readable when `bell` is rung or the other end of `lifeline` is gone.
pub(crate) fn bell_or_hang_up<F: AsFd>(bell: &Bell, lifeline: F) -> io::Result<OwnedFd> {
    let both = create(CreateFlags::CLOEXEC)?;
    add(&both, bell, EventData::new_u64(0), EventFlags::IN)?;
    // Without any event asked for: handles that wait in the socket are not readiness, a hang-up is always told.
    add(&both, lifeline, EventData::new_u64(1), EventFlags::empty())?;
    Ok(both)
}
