//! One end of a queue's lifelines.

use crate::bell::{Bell, bell_or_hang_up};
use crate::claims::{self, Claims};
use crate::core::{Bells, Core, FIXED, FORMAT};
use mp_core::Handle;
use mp_pipe::packet;
use mp_shm::{Format, Growable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// What a value that travels stands for: its two halves look alike otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole = 0,
    Sender = 1,
    Receiver = 2,
    Joinable = 3,
}

/// The queue and one end of its lifelines. When the last copy of an end is gone everywhere, the other side is told.
#[derive(Clone, Debug)]
pub(crate) struct End {
    core: Arc<Core>,
    /// `None` only while it is dropped.
    socket: Option<Handle>,
    /// What a half is polled by, from the first time on that somebody asks.
    polled: Arc<OnceLock<OwnedFd>>,
}

impl End {
    pub(crate) fn new(core: Arc<Core>, socket: Handle) -> End {
        mp_core::ends::enter(socket.shared());
        End { core, socket: Some(socket), polled: Arc::default() }
    }

    /// What is readable whenever a get from this end would not wait. A whole queue has no end that could be seen cut.
    pub(crate) fn values_fd(&self, watched: bool) -> io::Result<BorrowedFd<'_>> {
        let bell = &self.core.bells.values;
        self.polled_by(
            || if watched { bell_or_hang_up(bell, self.socket()) } else { own(bell) },
            Core::poll_values,
        )
    }

    /// What is readable whenever a put into this end would not wait.
    pub(crate) fn room_fd(&self) -> io::Result<BorrowedFd<'_>> {
        let make = || match &self.core.bells.room {
            Some(bell) => bell_or_hang_up(bell, self.socket()),
            None => {
                // There is always room.
                let bell = Bell::new()?;
                bell.ring();
                own(&bell)
            }
        };
        self.polled_by(make, Core::poll_room)
    }

    fn polled_by(
        &self,
        make: impl FnOnce() -> io::Result<OwnedFd>,
        begin: impl FnOnce(&Core),
    ) -> io::Result<BorrowedFd<'_>> {
        if self.polled.get().is_none() {
            let fd = make()?;
            begin(&self.core);
            // Another thread may have been faster; its descriptor is as good.
            let _ = self.polled.set(fd);
        }
        self.polled.get().map(OwnedFd::as_fd).ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Whether a get would not wait: a value, or the news that there will be none.
    pub(crate) fn has_values(&self, watched: bool) -> bool {
        let core = &self.core;
        let something = || core.has_something() || core.is_closed();
        something()
            || (watched && packet::hung_up(self.socket()))
            || core.sweep_if_due()
            || !core.silence_values()
    }

    /// Whether a put would not wait: room, or the news that there will be none.
    pub(crate) fn has_room(&self) -> bool {
        let something = || self.core.has_room() || self.core.is_closed();
        something() || packet::hung_up(self.socket()) || !self.core.silence_room()
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
        let claims = first.core.claims.as_ref().map(Claims::memory);
        (kind as u8, first.core.memory(), &first.core.bells, claims, first.socket(), second)
            .serialize(serializer)
    }

    /// The ends of a handle of `kind`, the second of a whole one.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<(End, Option<End>), D::Error> {
        type Parts = (u8, Handle, Bells, Option<Handle>, Handle, Option<Handle>);
        let (tag, memory, bells, claims, first, second) = Parts::deserialize(deserializer)?;
        let whole = matches!(kind, Kind::Whole | Kind::Joinable);
        if tag != kind as u8 || second.is_some() != whole || claims.is_some() != (kind == Kind::Joinable) {
            return Err(de::Error::custom(
                "another kind of handle of a queue: whole, sender, receiver or joinable",
            ));
        }
        let memory = open(memory, FORMAT, FIXED).map_err(de::Error::custom)?;
        let claims = claims.map(|memory| open(memory, claims::FORMAT, claims::FIXED).map(Claims::open));
        let claims = claims.transpose().map_err(de::Error::custom)?;
        let core = Core::open(memory, bells, claims).map(Arc::new).map_err(de::Error::custom)?;
        let second = second.map(|socket| End::new(Arc::clone(&core), socket));
        Ok((End::new(core, first), second))
    }
}

fn open(memory: Handle, format: Format, fixed: usize) -> io::Result<Growable> {
    let memory = Arc::try_unwrap(memory.into_shared()).or_else(|fd| fd.try_clone())?;
    Growable::open(memory, format, fixed)
}

fn own(bell: &Bell) -> io::Result<OwnedFd> {
    bell.as_fd().try_clone_to_owned()
}

impl Drop for End {
    fn drop(&mut self) {
        // The line first, then the news.
        drop(self.socket.take());
        self.core.end_dropped();
    }
}
