//! Looking after the dead: what they had claimed comes back, is counted lost, or was never theirs.

use super::table::{BURIAL, Claims, DELIVERIES, Entry, KIND, LOST, LOST_THEN, NOT_AGAIN, NUMBER, SWEPT};
use crate::raw::claim::{self, State};
use mp_core::Identity;
use mp_core::deadline::SLICE;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};

impl Claims {
    /// Under the get lock: counts a returned message lost when it may not be handed out again.
    pub(super) fn bury_if_over(&self, slot: u64, entry: &Entry<'_>) -> bool {
        let mark = entry.word(KIND).load(Relaxed) & NOT_AGAIN;
        if mark == 0 && u64::from(entry.small(DELIVERIES).load(Relaxed)) <= self.again() {
            return false;
        }
        self.word(LOST_THEN).store(self.lost().wrapping_add(1), Relaxed);
        // Release, here and below: not before what stands above it, wherever a death falls.
        self.word(BURIAL).store(slot + 1, Release);
        mp_core::step!("queue.lost", 1);
        self.finish_burial();
        true
    }

    /// Counts the message lost whose burial was begun; may itself be begun again.
    pub(super) fn finish_burial(&self) {
        let Some(slot) = self.word(BURIAL).load(Relaxed).checked_sub(1) else { return };
        self.word(LOST).store(self.word(LOST_THEN).load(Relaxed), Relaxed);
        mp_core::step!("queue.lost", 2);
        if let Ok(entry) = self.entry(slot) {
            let ticket = entry.words().ticket();
            if claim::state(ticket) == State::Returned {
                entry.words().bury(ticket);
                mp_core::step!("queue.lost", 3);
            }
            if claim::state(entry.words().ticket()) == State::Settling {
                self.finish(&entry);
            }
        }
        self.word(BURIAL).store(0, Release);
    }

    /// Whether nobody has looked after the owners for a slice; then the caller is the one to do it.
    pub(crate) fn sweep_is_due(&self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec.cast_unsigned().wrapping_mul(1000) + now.tv_nsec.cast_unsigned() / 1_000_000;
        let then = self.word(SWEPT).load(Relaxed);
        let slice = u64::try_from(SLICE.as_millis()).unwrap_or(100);
        now.wrapping_sub(then) >= slice
            && self.word(SWEPT).compare_exchange(then, now, Relaxed, Relaxed).is_ok()
    }

    /// The owners of claims that are dead. Without any lock: asking takes its time, and the dead stay dead.
    pub(crate) fn dead_owners(&self) -> Vec<u64> {
        let mut known: Vec<(u64, bool)> = Vec::new();
        for (_, entry) in self.entries() {
            let Ok(entry) = entry else { continue };
            let words = entry.words();
            if matches!(claim::state(words.ticket()), State::Claimed | State::Settling) {
                let owner = words.owner.load(Relaxed);
                if known.last().is_none_or(|(last, _)| *last != owner)
                    && known.iter().all(|(who, _)| *who != owner)
                {
                    known.push((owner, Identity::packed_is_alive(owner)));
                }
            }
        }
        known.into_iter().filter(|(_, alive)| !alive).map(|(owner, _)| owner).collect()
    }

    /// Under the get lock: what the `dead` had claimed is returned, and what may not be handed out again is counted lost. True when
    /// something waits to be handed out again.
    pub(crate) fn sweep(&self, dead: &[u64]) -> io::Result<bool> {
        let mut some = false;
        for (slot, entry) in self.entries() {
            let entry = entry?;
            let ticket = entry.words().ticket();
            let state = claim::state(ticket);
            let owned = matches!(state, State::Claimed | State::Settling);
            if owned && dead.contains(&entry.words().owner.load(Relaxed)) {
                match state {
                    State::Settling => self.finish(&entry),
                    _ => _ = self.return_it(&entry, ticket),
                }
            }
            if claim::state(entry.words().ticket()) == State::Returned && !self.bury_if_over(slot, &entry) {
                // Its giver may have died before it said so.
                self.returned().store(1, Release);
                some = true;
            }
        }
        Ok(some)
    }

    /// Under the get lock, after a death under it: claims whose takes were not committed are none. `taken` is the number of the next
    /// message. May itself be begun again.
    pub(crate) fn mend(&self, taken: u64) {
        self.finish_burial();
        for (_, entry) in self.entries() {
            let Ok(entry) = entry else { continue };
            let (ticket, number) = (entry.words().ticket(), entry.word(NUMBER).load(Relaxed));
            let void = number.wrapping_sub(taken).cast_signed() >= 0;
            if void && claim::state(ticket) == State::Claimed && entry.words().bury(ticket) {
                self.finish(&entry);
            }
        }
    }
}
