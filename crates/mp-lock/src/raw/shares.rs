//! Who reads: shares that threads take under a mutex, and a gate that opens when one is given back.
//!
//! | share | becomes |
//! | --- | --- |
//! | free (owner 0) | named and owned, under the mutex |
//! | owned by a thread | deeper or less deep, by that thread; free when it is out |
//! | owned, its process dead | free, by a sweeper |
//!
//! Invariants:
//! 1. Shares are taken under the mutex only. So who holds it and sees none taken has the value alone.
//! 2. A thread that has a share goes deeper without the mutex, which changes only its own count. So it never waits for a
//!    writer who waits for it.
//! 3. Waiting writers free the shares of the dead each slice.
//! 4. Shares from `used` on were never taken, and nobody looks there; it grows under the mutex.
//!
//! Memory orderings: a share is given back with Release and found free with Acquire: the writer sees that the reader is
//! done. The rest the mutex orders; a thread finds its own share by program order.

use super::gate::Gate;
use super::sync::{AtomicU32, AtomicU64, Watch};
use super::table::Table;
use std::sync::atomic::Ordering;

const DEPTH: u64 = u32::MAX as u64;

/// As many share it as can be kept track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A view of the words: at most `most` shares, of which `owner` and `depth` give the two words each. The second holds the
/// thread in its upper half, and how deep it is in.
pub(crate) struct Shares<'a, O, D> {
    pub(crate) gate: Gate<'a>,
    pub(crate) used: &'a AtomicU32,
    pub(crate) most: usize,
    pub(crate) owner: O,
    pub(crate) depth: D,
}

impl<'a, O, D> Shares<'a, O, D>
where
    O: Fn(usize) -> &'a AtomicU64,
    D: Fn(usize) -> &'a AtomicU64,
{
    fn used(&self) -> usize {
        usize::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(usize::MAX).min(self.most)
    }

    fn table(&self) -> Table<&O> {
        Table::new(self.used(), &self.owner)
    }

    /// The share of this thread.
    pub(crate) fn own(&self, me: u64, thread: u32) -> Option<usize> {
        let mine = |place: &usize| {
            (self.owner)(*place).load(Ordering::Relaxed) == me
                && (self.depth)(*place).load(Ordering::Relaxed) & !DEPTH == u64::from(thread) << 32
        };
        (0..self.used()).find(mine)
    }

    /// Takes a share that this thread has once more.
    pub(crate) fn go_deeper(&self, place: usize) -> Result<(), Full> {
        let now = (self.depth)(place).load(Ordering::Relaxed);
        if now & DEPTH == DEPTH {
            return Err(Full);
        }
        (self.depth)(place).store(now + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a share, under the mutex.
    pub(crate) fn take(&self, me: u64, thread: u32, alive: impl Fn(u64) -> bool) -> Option<usize> {
        let free = |place: &usize| (self.owner)(*place).load(Ordering::Acquire) == 0;
        let used = self.used();
        let place = (0..used.saturating_add(1).min(self.most)).find(free).or_else(|| {
            self.table().sweep(alive);
            (0..used).find(free)
        })?;
        if place == used {
            self.used.store(u32::try_from(used + 1).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        // In this order: a share that names its owner names no other thread of it.
        (self.depth)(place).store(0, Ordering::Relaxed);
        (self.owner)(place).store(me, Ordering::Release);
        mp_core::step!("rwlock.read", 1);
        (self.depth)(place).store(u64::from(thread) << 32 | 1, Ordering::Relaxed);
        Some(place)
    }

    /// Gives a share back once.
    pub(crate) fn give_back(&self, place: usize) {
        let now = (self.depth)(place).load(Ordering::Relaxed).saturating_sub(1);
        (self.depth)(place).store(now, Ordering::Relaxed);
        if now & DEPTH == 0 {
            (self.depth)(place).store(0, Ordering::Relaxed);
            mp_core::step!("rwlock.read", 3);
            (self.owner)(place).store(0, Ordering::Release);
            mp_core::step!("rwlock.read", 4);
            self.gate.open_all();
        }
    }

    /// Whether nobody reads. Stays so while the mutex is held.
    pub(crate) fn none(&self) -> bool {
        (0..self.used()).all(|place| (self.owner)(place).load(Ordering::Acquire) == 0)
    }

    /// Waits, under the mutex, until nobody reads; false when the time is over.
    pub(crate) fn await_none(&self, mut watch: Watch<'_>, alive: impl Fn(u64) -> bool) -> bool {
        loop {
            let seen = self.gate.look();
            if self.none() {
                return true;
            }
            let over = watch.over();
            if (over || watch.look_due()) && self.table().sweep(&alive) > 0 {
                continue;
            }
            if over {
                return false;
            }
            self.gate.sleep(seen, &mut watch);
        }
    }

    /// The processes that read, one for each share.
    pub(crate) fn readers(&self) -> Vec<u64> {
        self.table().owners(0..self.used()).collect()
    }
}
