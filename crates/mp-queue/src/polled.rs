//! Who polls a queue from outside: when a [`Core`] rings its bells, and when it silences them.

use crate::bell::Bell;
use crate::core::{AT_ONCE, Core, ROOM_POLLED, VALUES_POLLED};
use crate::raw::bell;
use mp_core::Deadline;
use std::sync::atomic::Ordering::Relaxed;

impl Core {
    /// Under the put lock, before something is published.
    #[inline]
    pub(crate) fn announce_values(&self) {
        bell::announce(
            &self.words[VALUES_POLLED],
            || self.ring.is_empty(),
            || {
                mp_core::step!("queue.bell", 1);
                self.bells.values.ring();
                mp_core::step!("queue.bell", 2);
            },
        );
    }

    /// Under the get lock, before a take is committed.
    #[inline]
    pub(crate) fn announce_room(&self) {
        bell::announce(
            &self.words[ROOM_POLLED],
            || !self.has_room(),
            || {
                mp_core::step!("queue.bell", 3);
                self.bells.room.iter().for_each(Bell::ring);
                mp_core::step!("queue.bell", 4);
            },
        );
    }

    /// Whether nobody in any process polls for values. Under the put lock.
    #[inline(always)]
    pub(crate) fn values_are_not_polled(&self) -> bool {
        self.words[VALUES_POLLED].load(Relaxed) == 0
    }

    /// Whether nobody in any process polls for room. Under the get lock.
    #[inline(always)]
    pub(crate) fn room_is_not_polled(&self) -> bool {
        self.words[ROOM_POLLED].load(Relaxed) == 0
    }

    /// From here on the bell of values can be polled.
    pub(crate) fn poll_values(&self) {
        self.polls_values.store(true, Relaxed);
        bell::begin(&self.words[VALUES_POLLED], || self.bells.values.ring());
    }

    /// From here on the bell of room can be polled.
    pub(crate) fn poll_room(&self) {
        self.polls_room.store(true, Relaxed);
        bell::begin(&self.words[ROOM_POLLED], || self.bells.room.iter().for_each(Bell::ring));
    }

    /// When nothing was found: silences the bell, if this process polls it. False when something is there after all. A
    /// bell that a stopped producer keeps from being silenced stays rung.
    #[inline]
    pub(crate) fn silence_values(&self) -> bool {
        !self.polls_values.load(Relaxed) || self.silence_polled_values()
    }

    #[cold]
    fn silence_polled_values(&self) -> bool {
        let Ok(_put) = self.lock_put(Deadline::after(AT_ONCE)) else {
            self.missed_values();
            return true;
        };
        bell::silence(
            || !self.ring.is_empty() || self.is_closed(),
            || {
                self.bells.values.silence();
                mp_core::step!("queue.silence", 1);
            },
        )
    }

    /// As [`silence_values`](Core::silence_values), when there was no room.
    #[inline]
    pub(crate) fn silence_room(&self) -> bool {
        !self.polls_room.load(Relaxed) || self.silence_polled_room()
    }

    #[cold]
    fn silence_polled_room(&self) -> bool {
        let something_there = || self.has_room() || self.is_closed();
        let Ok(put) = self.lock_put(Deadline::after(AT_ONCE)) else {
            self.missed_room();
            return true;
        };
        if let Some(_get) = self.lock_get_if_free() {
            return bell::silence(something_there, || {
                self.bells.room.iter().for_each(Bell::silence);
                mp_core::step!("queue.silence", 2);
            });
        }
        drop(put);
        // A consumer is in the middle of a take: room will come, unless it was stopped there.
        drop(self.lock_get(Deadline::after(AT_ONCE)));
        self.missed_room();
        !something_there()
    }

    /// A lock was not to be had in time, so "empty" is not the truth: who waits for edges gets another one.
    #[cold]
    pub(crate) fn missed_values(&self) {
        if self.polls_values.load(Relaxed) {
            self.bells.values.ring();
        }
    }

    /// Something came that no producer brought: rings for whoever polls, in any process.
    #[cold]
    pub(crate) fn missed_by_pollers(&self) {
        if self.words[VALUES_POLLED].load(Relaxed) != 0 {
            self.bells.values.ring();
        }
    }

    /// As [`missed_values`](Core::missed_values), for "full".
    #[cold]
    pub(crate) fn missed_room(&self) {
        if self.polls_room.load(Relaxed) {
            self.bells.room.iter().for_each(Bell::ring);
        }
    }
}
