//! Permits of a semaphore: a table of owners, and a gate that opens when one comes back.
//!
//! Invariants:
//! 1. A permit is free exactly while its word is `FREE`; each change is one exchange. There is no count: the table is it.
//! 2. A failed search counts only if the gate did not change meanwhile: a permit given back behind the searcher's back,
//!    and one taken before its eyes, would hide that there was one all the time.
//! 3. Entries from `used` on have always been `ABSENT`, and nobody looks there. `used` only grows, before the entry changes.
//! 4. Waiters free the permits of the dead each slice.
//!
//! Memory orderings: as the table and the gate say. `used` grows with AcqRel before the exchange that makes an entry free,
//! and the gate opens after it: who sees the gate's change sees the new `used`.

use super::gate::{Gate, Owed};
use super::sync::{AtomicU32, AtomicU64, Watch};
use super::table::Table;
use std::sync::atomic::Ordering;

/// A view of a semaphore's words: at most `entries` permits, of which `word` gives each.
pub(crate) struct Permits<'a, F> {
    gate: Gate<'a>,
    used: &'a AtomicU32,
    entries: usize,
    word: F,
}

impl<'a, F: Fn(usize) -> &'a AtomicU64> Permits<'a, F> {
    pub(crate) fn new(gate: Gate<'a>, used: &'a AtomicU32, entries: usize, word: F) -> Permits<'a, F> {
        Permits { gate, used, entries, word }
    }

    pub(crate) fn table(&self) -> Table<&F> {
        let used = usize::try_from(self.used.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        Table::new(used.min(self.entries), &self.word)
    }

    /// Differs from what it was once a permit has come back.
    #[inline]
    pub(crate) fn look(&self) -> u32 {
        self.gate.look()
    }

    /// Takes a permit for `me`, if one is free now (invariant 2).
    #[inline]
    pub(crate) fn take(&self, me: u64, hint: usize) -> Option<usize> {
        loop {
            let seen = self.gate.look();
            if let Some(place) = self.table().take(me, hint) {
                mp_core::step!("semaphore.acquire", 1);
                return Some(place);
            }
            if self.gate.look() == seen {
                return None;
            }
        }
    }

    /// Frees the permits of the dead; whether there were any.
    pub(crate) fn sweep(&self, alive: impl Fn(u64) -> bool) -> bool {
        let freed = self.table().sweep(alive);
        mp_core::step!("semaphore.sweep", 1);
        if freed > 0 {
            self.gate.open_all();
        }
        freed > 0
    }

    /// Waits for a permit; `None` when the time is over.
    pub(crate) fn acquire(
        &self,
        me: u64,
        hint: usize,
        mut watch: Watch<'_>,
        alive: impl Fn(u64) -> bool,
    ) -> Option<usize> {
        loop {
            let seen = self.gate.look();
            if let Some(place) = self.take(me, hint) {
                return Some(place);
            }
            let over = watch.over();
            if (over || watch.look_due()) && self.sweep(&alive) {
                continue;
            }
            if over {
                return None;
            }
            self.gate.sleep(seen, &mut watch);
        }
    }

    /// Gives a permit back, and says whom the gate is to wake; `None` when it was not `me`'s.
    #[inline]
    pub(crate) fn give_back(&self, place: usize, me: u64) -> Option<Owed> {
        mp_core::step!("semaphore.release", 1);
        self.gate.will_open();
        let was_mine = self.table().give_back(place, me);
        was_mine.then(|| {
            mp_core::step!("semaphore.release", 2);
            self.gate.open_one()
        })
    }

    /// Adds one free permit, and says whom the gate is to wake; `None` when there is no room.
    pub(crate) fn add(&self) -> Option<Owed> {
        self.gate.will_open();
        let added = self.table().add() || self.extend();
        added.then(|| self.gate.open_one())
    }

    /// Looks further, for an entry that was never there.
    #[cold]
    fn extend(&self) -> bool {
        loop {
            let used = self.used.load(Ordering::Acquire);
            let place = usize::try_from(used).unwrap_or(usize::MAX);
            if place >= self.entries {
                return false;
            }
            // Whoever is faster grows it; the entry itself is another exchange's.
            let _ = self.used.compare_exchange(used, used + 1, Ordering::AcqRel, Ordering::Acquire);
            if self.table().add() {
                return true;
            }
        }
    }
}
