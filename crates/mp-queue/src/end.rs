//! One end of a queue's lifelines.

use crate::core::{Core, FIXED, FORMAT};
use mp_core::Handle;
use mp_shm::Growable;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::sync::Arc;

/// What a value that travels stands for: its two halves look alike otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole = 0,
    Sender = 1,
    Receiver = 2,
}

/// The queue and one end of its lifelines. When the last copy of an end is gone everywhere, the other side is told.
#[derive(Clone, Debug)]
pub(crate) struct End {
    core: Arc<Core>,
    /// `None` only while it is dropped.
    socket: Option<Handle>,
}

impl End {
    pub(crate) fn new(core: Arc<Core>, socket: Handle) -> End {
        End { core, socket: Some(socket) }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    #[inline]
    pub(crate) fn socket(&self) -> &Handle {
        self.socket.as_ref().expect("an end has its socket until it is dropped")
    }

    /// Serialises a handle that consists of `ends`.
    pub(crate) fn serialize<S: Serializer>(
        kind: Kind,
        ends: &[&End],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let [first, ..] = ends else { return Err(serde::ser::Error::custom("a queue without ends")) };
        let second = ends.get(1).map(|end| end.socket());
        (kind as u8, first.core.memory(), first.socket(), second).serialize(serializer)
    }

    /// The ends of a handle of `kind`, the second of a whole one.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<(End, Option<End>), D::Error> {
        let (tag, memory, first, second): (u8, Handle, Handle, Option<Handle>) =
            Deserialize::deserialize(deserializer)?;
        if tag != kind as u8 || second.is_some() != (kind == Kind::Whole) {
            return Err(de::Error::custom("another kind of handle of a queue: whole, sender or receiver"));
        }
        let memory = memory.into_shared();
        let memory = Arc::try_unwrap(memory).or_else(|fd| fd.try_clone()).map_err(de::Error::custom)?;
        let memory = Growable::open(memory, FORMAT, FIXED).map_err(de::Error::custom)?;
        let core = Core::open(memory).map(Arc::new).map_err(de::Error::custom)?;
        let second = second.map(|socket| End::new(Arc::clone(&core), socket));
        Ok((End::new(core, first), second))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The line first, then the news.
        drop(self.socket.take());
        self.core.end_dropped();
    }
}
