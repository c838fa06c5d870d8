//! The bytes of claimed messages: buffers that belong to entries, and the windows through which a process sees them.

use super::table::{CAPACITY, COUNT, Claims, END, Entry, PLACE, invalid};
use crate::raw::claim::FREE;
use mp_shm::{Mapping, WINDOW};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Arc, Mutex};

const SMALLEST: u64 = 64;
/// Buffers beyond this are given back when nothing is claimed.
const IDLE_KEEPS: u64 = 1 << 20;
/// No machine has so much memory: what lies beyond is damage.
const FARTHEST: u64 = 1 << 46;
/// Windows that one process keeps mapped.
const MAPPED: usize = 256;

/// The windows that this process has mapped lately. Who finds the list taken maps for itself: a forked child may find it so for ever.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<HashMap<u64, Arc<Mapping>>>);

impl Windows {
    fn get(&self, start: u64, map: impl FnOnce() -> io::Result<Mapping>) -> io::Result<Arc<Mapping>> {
        let Ok(mut windows) = self.0.try_lock() else { return map().map(Arc::new) };
        if windows.len() >= MAPPED {
            windows.clear();
        }
        if let Some(map) = windows.get(&start) {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(map()?);
        windows.insert(start, Arc::clone(&map));
        Ok(map)
    }

    fn clear(&self) {
        if let Ok(mut windows) = self.0.try_lock() {
            windows.clear();
        }
    }
}

impl Claims {
    /// Gives `entry` a buffer for `wanted` bytes.
    pub(super) fn make_room(&self, entry: &Entry<'_>, wanted: u64) -> io::Result<()> {
        let capacity = entry.word(CAPACITY).load(Relaxed);
        if capacity >= wanted {
            // Its pages were given back when it was last settled.
            let large = capacity >= WINDOW;
            return if large {
                self.memory().allocate(entry.word(PLACE).load(Relaxed), wanted)
            } else {
                Ok(())
            };
        }
        let capacity = if wanted <= WINDOW {
            wanted.next_power_of_two().max(SMALLEST)
        } else {
            wanted.next_multiple_of(WINDOW)
        };
        let end = self.word(END).load(Relaxed).max(self.arena());
        if end > FARTHEST || wanted > FARTHEST {
            return Err(invalid("buffers that end beyond all memory"));
        }
        // A small one lies within one window, since it is aligned to its own size.
        let place = end.next_multiple_of(capacity.min(WINDOW));
        let (known, needed) = (end.next_multiple_of(WINDOW), (place + capacity).next_multiple_of(WINDOW));
        if needed > known {
            self.memory().allocate(known, needed - known)?;
        }
        self.word(END).store(place + capacity, Relaxed);
        entry.word(PLACE).store(place, Relaxed);
        entry.word(CAPACITY).store(capacity, Relaxed);
        Ok(())
    }

    /// Runs `body` with the mapping in which `length` bytes at `place` lie, and where in it they do.
    pub(super) fn with_window<R>(
        &self,
        place: u64,
        length: u64,
        body: impl FnOnce(&Mapping, usize) -> R,
    ) -> io::Result<R> {
        let start = place / WINDOW * WINDOW;
        let end = place.saturating_add(length).checked_next_multiple_of(WINDOW);
        let size = end.and_then(|end| end.checked_sub(start)).ok_or_else(|| invalid("bytes of no length"))?;
        if place < self.arena() {
            return Err(invalid("the bytes of a claim lie in the table"));
        }
        let to_size = |size: u64| usize::try_from(size).map_err(|_| invalid("bytes longer than memory"));
        let at = to_size(place - start)?;
        if size != WINDOW {
            return Ok(body(&self.memory().window(start, to_size(size)?)?, at));
        }
        let map = self.windows.get(start, || self.memory().window(start, to_size(size)?))?;
        Ok(body(&map, at))
    }

    /// Gives the pages of a large buffer back, and keeps the place.
    pub(super) fn release(&self, entry: &Entry<'_>) {
        let capacity = entry.word(CAPACITY).load(Relaxed);
        let place = entry.word(PLACE).load(Relaxed);
        if capacity >= WINDOW && place >= self.arena() {
            // Failing to give memory back costs memory, nothing else.
            let _ = self.memory().give_back(place, capacity);
        }
    }

    /// Under the get lock: when nothing is claimed, gives the buffers back.
    pub(crate) fn trim(&self) {
        let (arena, end) = (self.arena(), self.word(END).load(Relaxed));
        if !(arena + IDLE_KEEPS..=FARTHEST).contains(&end) {
            return;
        }
        let all_free =
            self.entries().all(|(_, entry)| entry.is_ok_and(|entry| entry.words().ticket() == FREE));
        if all_free {
            self.word(COUNT).store(0, Release);
            self.word(END).store(arena, Relaxed);
            // Failing to give memory back costs memory, nothing else.
            let _ = self.memory().give_back(arena, end.next_multiple_of(WINDOW) - arena);
            self.windows.clear();
        }
    }
}
