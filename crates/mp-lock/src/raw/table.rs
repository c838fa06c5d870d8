//! Who owns what: a table whose entries change by one atomic operation.
//!
//! Purpose: something of which there are several (permits, shares) is owned by processes that may die. Nothing counts;
//! the table is the truth, and every change is whole or has not happened.
//!
//! | entry | meaning | becomes |
//! | --- | --- | --- |
//! | `FREE` | there for the taking | an owner's identity, by `take`; `ABSENT`, never |
//! | an identity | owned by that process | `FREE` by `give_back` or, once it is dead, by `sweep`; `ABSENT` by `forget` |
//! | `ABSENT` | not there | `FREE`, by `add` |
//!
//! Invariants:
//! 1. An entry with a living owner is changed only by that owner; with a dead one, by whoever's exchange comes first.
//! 2. What becomes free is announced by the caller after the change, on a gate.
//!
//! Memory orderings: giving back is Release and taking is Acquire, so that what one owner did happens before what the
//! next one does.

use super::sync::AtomicU64;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

pub(crate) const FREE: u64 = 0;
pub(crate) const ABSENT: u64 = u64::MAX;

/// A place in a table of `len` words.
pub(crate) struct Table<F> {
    len: usize,
    word: F,
}

impl<'a, F: Fn(usize) -> &'a AtomicU64> Table<F> {
    /// The table of `len` entries, of which `word` gives each.
    pub(crate) fn new(len: usize, word: F) -> Table<F> {
        Table { len, word }
    }

    fn swap(&self, place: usize, from: u64, to: u64) -> bool {
        (self.word)(place).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Takes a free entry for `owner`, looking from `hint` on.
    #[inline]
    pub(crate) fn take(&self, owner: u64, hint: usize) -> Option<usize> {
        let free = |place: &usize| (self.word)(*place).load(Ordering::Relaxed) == FREE;
        let around = (hint.min(self.len)..self.len).chain(0..hint.min(self.len));
        around.filter(free).find(|place| self.swap(*place, FREE, owner))
    }

    /// Gives an entry back; false when it was not `owner`'s.
    #[inline]
    pub(crate) fn give_back(&self, place: usize, owner: u64) -> bool {
        self.swap(place, owner, FREE)
    }

    /// Makes an owned entry absent; false when it was not `owner`'s.
    pub(crate) fn forget(&self, place: usize, owner: u64) -> bool {
        self.swap(place, owner, ABSENT)
    }

    /// Makes one absent entry free; false when none is absent.
    pub(crate) fn add(&self) -> bool {
        (0..self.len).any(|place| {
            (self.word)(place).load(Ordering::Relaxed) == ABSENT && self.swap(place, ABSENT, FREE)
        })
    }

    /// How many are free now.
    pub(crate) fn free(&self) -> usize {
        (0..self.len).filter(|place| (self.word)(*place).load(Ordering::Acquire) == FREE).count()
    }

    /// The owners of those of `places` that have one.
    pub(crate) fn owners(&self, places: impl Iterator<Item = usize>) -> impl Iterator<Item = u64> {
        places
            .map(|place| (self.word)(place).load(Ordering::Acquire))
            .filter(|owner| *owner != FREE && *owner != ABSENT)
    }

    /// Frees what the dead owned; how many entries that were. Each owner is asked after once.
    pub(crate) fn sweep(&self, alive: impl Fn(u64) -> bool) -> u32 {
        let mut known = Known::default();
        let mut freed = 0;
        for place in 0..self.len {
            let owner = (self.word)(place).load(Ordering::Acquire);
            if owner == FREE || owner == ABSENT {
                continue;
            }
            if !known.lives(owner, &alive) && self.swap(place, owner, FREE) {
                freed += 1;
            }
        }
        freed
    }
}

/// Who lives, asked once for each.
#[derive(Default)]
pub(crate) struct Known(HashMap<u64, bool>);

impl Known {
    pub(crate) fn lives(&mut self, owner: u64, alive: impl Fn(u64) -> bool) -> bool {
        *self.0.entry(owner).or_insert_with(|| alive(owner))
    }
}
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn words(len: usize) -> Vec<AtomicU64> {
        (0..len).map(|_| AtomicU64::new(FREE)).collect()
    }

    #[test]
    fn what_is_taken_is_not_free_until_given_back() {
        let words = words(2);
        let table = Table::new(2, |place| &words[place]);
        assert_eq!(table.take(7, 1), Some(1));
        assert_eq!(table.take(8, 1), Some(0));
        assert_eq!((table.take(9, 0), table.free()), (None, 0));
        assert!(!table.give_back(0, 7), "not his");
        assert!(table.give_back(1, 7));
        assert_eq!(table.take(9, 0), Some(1));
    }

    #[test]
    fn what_is_forgotten_comes_back_only_when_added() {
        let words = words(1);
        let table = Table::new(1, |place| &words[place]);
        assert!(!table.add());
        table.take(7, 0).unwrap();
        assert!(table.forget(0, 7));
        assert_eq!((table.sweep(|_| false), table.take(8, 0)), (0, None));
        assert!(table.add());
        assert_eq!(table.take(8, 0), Some(0));
    }

    #[test]
    fn only_the_dead_are_swept_and_each_is_asked_after_once() {
        let words = words(4);
        let table = Table::new(4, |place| &words[place]);
        for owner in [7, 8, 7] {
            table.take(owner, 0).unwrap();
        }
        let asked = std::cell::RefCell::new(Vec::new());
        let alive = |owner| {
            asked.borrow_mut().push(owner);
            owner == 8
        };
        assert_eq!(table.sweep(alive), 2);
        assert_eq!((asked.into_inner(), table.free()), (vec![7, 8], 3));
    }
}
