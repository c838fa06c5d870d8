//! What this process got and has not called done, in order.
//!
//! A list beside the table, so that `task_done` finds the oldest at once. The table is the truth: each of these claims is marked there, and
//! when the list cannot be had (a forked child finds it taken for ever by a thread that it does not have) the table is searched
//! instead, from then on.

use super::table::{Claimed, Claims, DELIVERIES, IN_TURN, KIND, NUMBER};
use crate::raw::claim::{self, State};
use mp_core::Identity;
use mp_core::deadline::SLICE;
use mp_shm::Growable;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Own {
    by_number: Mutex<BTreeMap<u64, Claimed>>,
    given_up: AtomicBool,
}

impl Own {
    /// The list of this process for the queue with this memory: one, however often it was opened here.
    pub(super) fn of(memory: &Growable) -> Arc<Own> {
        static ALL: Mutex<BTreeMap<u64, Weak<Own>>> = Mutex::new(BTreeMap::new());
        let own = Arc::new(Own::default());
        let (Ok(stat), Some(mut all)) = (rustix::fs::fstat(memory), patiently(&ALL)) else {
            // Claims got through another opening are found in the table.
            own.given_up.store(true, Relaxed);
            return own;
        };
        all.retain(|_, own| own.strong_count() > 0);
        if let Some(own) = all.get(&stat.st_ino).and_then(Weak::upgrade) {
            return own;
        }
        all.insert(stat.st_ino, Arc::downgrade(&own));
        own
    }

    fn list(&self) -> Option<MutexGuard<'_, BTreeMap<u64, Claimed>>> {
        if self.given_up.load(Relaxed) {
            return None;
        }
        let list = patiently(&self.by_number);
        if list.is_none() {
            self.given_up.store(true, Relaxed);
        }
        list
    }
}

/// Locks what is held for an instant only; `None` when its holder does not come back within a slice.
fn patiently<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let start = Instant::now();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            // What is inside stays whole at every step.
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if start.elapsed() > SLICE => return None,
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
}

impl Claims {
    /// This process settles `claimed` in its turn.
    pub(crate) fn keep(&self, claimed: Claimed) {
        if let Ok(entry) = self.entry(claimed.slot) {
            entry.word(KIND).fetch_or(IN_TURN, Relaxed);
        }
        if let Some(mut list) = self.own.list() {
            list.insert(claimed.number, claimed);
        }
    }

    /// The oldest claim that this process keeps.
    pub(crate) fn oldest_kept(&self) -> Option<Claimed> {
        match self.own.list() {
            Some(mut list) => list.pop_first().map(|(_, claimed)| claimed),
            None => self.oldest_in_table(),
        }
    }

    /// The last opening of the queue in this process is dropped: what it kept.
    pub(crate) fn leave(&mut self) -> Vec<Claimed> {
        let last = Arc::into_inner(std::mem::take(&mut self.own));
        let list = last.map(|own| own.by_number.into_inner().unwrap_or_else(PoisonError::into_inner));
        list.map(|list| list.into_values().collect()).unwrap_or_default()
    }

    #[cold]
    fn oldest_in_table(&self) -> Option<Claimed> {
        let me = Identity::current().pack();
        let kept = self.entries().filter_map(|(slot, entry)| {
            let entry = entry.ok()?;
            let ticket = entry.words().ticket();
            let mine = claim::state(ticket) == State::Claimed && entry.words().owner.load(Relaxed) == me;
            let kept = mine && entry.word(KIND).load(Relaxed) & IN_TURN != 0;
            let (number, deliveries) =
                (entry.word(NUMBER).load(Relaxed), entry.small(DELIVERIES).load(Relaxed));
            kept.then_some(Claimed { slot, ticket, number, deliveries })
        });
        kept.min_by_key(|claimed| claimed.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp_core::Encoding;

    #[test]
    fn a_list_that_is_taken_for_ever_is_made_up_for_by_the_table() {
        let claims = Claims::create(1).unwrap();
        let record = |number| claims.record(number, Encoding::BYTES, false, b"x").unwrap();
        let (first, second, token) = (record(5), record(6), record(4));
        let _ = token;
        let other = Arc::clone(&claims.own);
        // As a forked child finds it.
        let _taken = other.by_number.lock().unwrap();
        claims.keep(second);
        claims.keep(first);
        assert_eq!(claims.oldest_kept(), Some(first));
        assert!(claims.settle(first, || ()));
        assert_eq!(claims.oldest_kept(), Some(second));
        assert!(claims.settle(second, || ()));
        assert_eq!(claims.oldest_kept(), None);
    }
}
