//! The control block of a worker: words in shared memory that the worker writes and that can be read after its death.
//!
//! A task (or a chunk of items of one `map`) that was sent to a worker has an *entry* here, one word that says how much of it has
//! started. The worker claims the next item by one CAS before it runs it; the owner of the pool takes back, by one CAS, what has not
//! been claimed. So whoever looks, also after a SIGKILL, knows exactly what has started and what never has.
//!
//! | entry | `next` | `limit` | meaning |
//! | --- | --- | --- | --- |
//! | queued | 0 | n | nothing has started; all of it may be taken back |
//! | running | k | n | items before `k` have started, `k - 1` runs or has ended; those behind may be taken back |
//! | revoked | k | k | nothing more will start |
//!
//! 1. Only the worker raises `next`, only the owner lowers `limit`; `next <= limit` always.
//! 2. An entry is offered anew only with another generation; a claim under an old one fails.
//! 3. The start time is stored before the claim it belongs to, so it is never older than the item that the entry shows as running.
//!
//! Results of a pack are gathered by the worker and published many at a time. Until then they lie on the *slate* behind the block, so that
//! a death loses none: what has run is known, and what it returned.
//!
//! | step | a death here | the pool |
//! | --- | --- | --- |
//! | `pool.pack:1` an item was claimed | it is the one that runs | gives it `WorkerDied`, takes the results before it from the slate |
//! | `pool.pack:2` its result is on the slate, and not counted | as above | as above |
//! | `pool.pack:3` it was counted | nothing runs | takes its result too, and runs the rest elsewhere |
//! | `pool.pack:4` the results were published, the slate still shows them | as above | takes each once: the slate names the record that it stands for |
//! | `pool.pack:5` the slate was wiped | as above | as above |
//!
//! 4. The slate's word is stored after the bytes that it counts (Release), and an item is claimed only after the one before it was
//!    counted or sent: of the items of a pack that were claimed at most one has no result.
//! 5. The slate stands for the record that its worker publishes next, by that record's number: once it is published the slate says nothing.
//!
//! A claim is an acquire-release CAS, as is a revocation: both see what the other published before.

use mp_shm::Mapping;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// How many tasks or chunks may be at a worker at once.
pub(crate) const ENTRIES: usize = 64;

/// The most items in one chunk.
pub(crate) const MOST_ITEMS: u32 = (1 << 24) - 1;

const TASK: usize = 0;
const STARTED: usize = 8;
/// Owner to worker: the task that shall stop. On a line of its own: it is read often and written seldom.
const CANCEL: usize = 64;
const CLAIMS: usize = 128;
/// What lies on the slate: the number of the record, the items, the bytes, as 16, 24 and 24 bits; zero for nothing.
const SLATE_WORD: usize = CLAIMS + 8 * ENTRIES;
const SLATE_ENCODING: usize = SLATE_WORD + 8;
const SLATE_STARTED: usize = SLATE_WORD + 16;
const SLATE_BYTES: usize = SLATE_WORD + 64;

/// How many bytes of results lie on the slate at most.
pub(crate) const SLATE: usize = 12 << 10;

/// How many bytes the block takes.
pub(crate) const SIZE: usize = SLATE_BYTES + SLATE;

/// What a worker left on its slate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slate {
    pub(crate) items: usize,
    pub(crate) encoding: u8,
    pub(crate) started: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What an entry's word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) generation: u16,
    /// How many items have started.
    pub(crate) next: u32,
    /// How many may start.
    pub(crate) limit: u32,
}

impl Claim {
    const fn pack(self) -> u64 {
        (self.generation as u64) << 48 | (self.next as u64) << 24 | self.limit as u64
    }

    fn unpack(word: u64) -> Claim {
        let [l0, l1, l2, n0, n1, n2, g0, g1] = word.to_le_bytes();
        Claim {
            generation: u16::from_le_bytes([g0, g1]),
            next: u32::from_le_bytes([n0, n1, n2, 0]),
            limit: u32::from_le_bytes([l0, l1, l2, 0]),
        }
    }
}

/// A view of the block at `at` in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control<'a> {
    map: &'a Mapping,
    at: usize,
}

impl<'a> Control<'a> {
    pub(crate) fn new(map: &'a Mapping, at: usize) -> Control<'a> {
        Control { map, at }
    }

    /// Neighbours lie in different cache lines: the owner offers one while the worker claims the one before.
    fn entry(&self, index: usize) -> &'a AtomicU64 {
        const LINES: usize = ENTRIES / 8;
        let word = index % LINES * 8 + index / LINES % 8;
        self.map.atomic_u64(self.at + CLAIMS + 8 * word)
    }

    /// Owner: offers `items` items, before the record that names the entry is sent.
    pub(crate) fn offer(&self, index: usize, generation: u16, items: u32) {
        self.entry(index).store(Claim { generation, next: 0, limit: items }.pack(), Release);
    }

    /// What entry `index` says now, or what it last said before the worker died.
    pub(crate) fn look(&self, index: usize) -> Claim {
        Claim::unpack(self.entry(index).load(Acquire))
    }

    /// Worker: the number of the next item, which may run now; `None` when the rest was taken back or there is none.
    pub(crate) fn claim(&self, index: usize, generation: u16) -> Option<u32> {
        let word = self.entry(index);
        let mut seen = word.load(Relaxed);
        loop {
            let claim = Claim::unpack(seen);
            if claim.generation != generation || claim.next >= claim.limit {
                return None;
            }
            match word.compare_exchange_weak(
                seen,
                Claim { next: claim.next + 1, ..claim }.pack(),
                AcqRel,
                Acquire,
            ) {
                Ok(_) => return Some(claim.next),
                Err(now) => seen = now,
            }
        }
    }

    /// Owner: takes back what has not started, except for as many items as `leave` says of the number that has not; returns the
    /// entry as it is now.
    pub(crate) fn revoke(&self, index: usize, leave: impl Fn(u32) -> u32) -> Claim {
        let word = self.entry(index);
        let mut seen = word.load(Relaxed);
        loop {
            let claim = Claim::unpack(seen);
            let open = claim.limit.saturating_sub(claim.next);
            let kept = Claim { limit: claim.next + leave(open).min(open), ..claim };
            match word.compare_exchange_weak(seen, kept.pack(), AcqRel, Acquire) {
                Ok(_) => return kept,
                Err(now) => seen = now,
            }
        }
    }

    /// Worker: which task comes next, and when it starts, in nanoseconds of the monotonic clock.
    pub(crate) fn announce(&self, task: u64, started: u64) {
        self.map.atomic_u64(self.at + TASK).store(task, Relaxed);
        self.map.atomic_u64(self.at + STARTED).store(started, Release);
    }

    /// Worker: begins a slate of results that are encoded so, the first of which is being computed since `started`.
    pub(crate) fn begin_slate(&self, encoding: u8, started: u64) {
        self.map.atomic_u64(self.at + SLATE_ENCODING).store(encoding.into(), Relaxed);
        self.map.atomic_u64(self.at + SLATE_STARTED).store(started, Relaxed);
    }

    /// Worker: copies what is behind `from` in `results` onto the slate, then counts it: `items` in all, for record `number`.
    #[inline(always)]
    pub(crate) fn note_on_slate(&self, number: u64, items: u32, results: &[u8], from: usize) {
        let mut at = from / 8 * 8;
        while at < results.len() {
            let word = match results[at..].first_chunk() {
                Some(word) => u64::from_ne_bytes(*word),
                None => {
                    let mut word = [0; 8];
                    word[..results.len() - at].copy_from_slice(&results[at..]);
                    u64::from_ne_bytes(word)
                }
            };
            self.map.atomic_u64(self.at + SLATE_BYTES + at).store(word, Relaxed);
            at += 8;
        }
        mp_core::step!("pool.pack", 2);
        let word = (number & 0xffff) << 48 | u64::from(items) << 24 | results.len() as u64;
        self.map.atomic_u64(self.at + SLATE_WORD).store(word, Release);
        mp_core::step!("pool.pack", 3);
    }

    /// Worker: what lay there was sent.
    pub(crate) fn wipe_slate(&self) {
        self.map.atomic_u64(self.at + SLATE_WORD).store(0, Release);
    }

    /// Owner: what a dead worker left there that was to be its record `number`.
    pub(crate) fn slate(&self, number: u64) -> Option<Slate> {
        let word = self.map.atomic_u64(self.at + SLATE_WORD).load(Acquire);
        let (items, length) = ((word >> 24 & 0xff_ffff) as usize, (word & 0xff_ffff) as usize);
        if word == 0 || word >> 48 != number & 0xffff || items == 0 || length > SLATE {
            return None;
        }
        let encoding = self.map.atomic_u64(self.at + SLATE_ENCODING).load(Relaxed).to_le_bytes()[0];
        let started = self.map.atomic_u64(self.at + SLATE_STARTED).load(Relaxed);
        let word = |at: usize| self.map.atomic_u64(self.at + SLATE_BYTES + at).load(Relaxed);
        let mut bytes: Vec<u8> = (0..length).step_by(8).flat_map(|at| word(at).to_ne_bytes()).collect();
        bytes.truncate(length);
        Some(Slate { items, encoding, started, bytes })
    }

    /// Owner: asks task `task` to stop; zero asks none. It carries the task's number, so that it can never hit the next one.
    pub(crate) fn ask_to_stop(&self, task: u64) {
        self.map.atomic_u64(self.at + CANCEL).store(task, Release);
    }

    /// Worker: which task shall stop.
    pub(crate) fn asked_to_stop(&self) -> u64 {
        self.map.atomic_u64(self.at + CANCEL).load(Acquire)
    }

    /// When the item that runs was started. Read it after the entry.
    pub(crate) fn started(&self) -> u64 {
        self.map.atomic_u64(self.at + STARTED).load(Acquire)
    }
}

/// The number of a task, never zero and not the same again for a long time: its entry, the entry's generation, and its place in the chunk.
pub(crate) const fn task_number(entry: u8, generation: u16, item: u32) -> u64 {
    (generation as u64) << 40 | (entry as u64) << 32 | (item as u64 + 1)
}

/// The monotonic clock, the same in all processes, in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mp_shm::{Format, HEADER, Segment};

    fn block() -> Segment {
        Segment::create(Format::plain(*b"TEST", 1), SIZE).unwrap()
    }

    #[test]
    fn what_was_claimed_cannot_be_taken_back_and_the_other_way_round() {
        let segment = block();
        let control = Control::new(segment.map(), HEADER);
        control.offer(3, 7, 5);
        assert_eq!(control.claim(3, 7), Some(0));
        assert_eq!(control.claim(3, 7), Some(1));
        assert_eq!(control.revoke(3, |open| open / 2), Claim { generation: 7, next: 2, limit: 3 });
        assert_eq!(control.claim(3, 7), Some(2));
        assert_eq!(control.claim(3, 7), None);
        assert_eq!(control.look(3), Claim { generation: 7, next: 3, limit: 3 });
    }

    #[test]
    fn each_entry_has_a_word_of_its_own() {
        let segment = block();
        let control = Control::new(segment.map(), HEADER);
        let entries = 0_u8..ENTRIES.to_le_bytes()[0];
        entries.clone().for_each(|entry| control.offer(entry.into(), entry.into(), 1 + u32::from(entry)));
        for entry in entries {
            let Claim { generation, limit, .. } = control.look(entry.into());
            assert_eq!((generation, limit), (entry.into(), 1 + u32::from(entry)));
        }
        assert_eq!(control.started(), 0, "the words before are others");
        assert_eq!(control.slate(1), None, "and so are those behind");
    }

    #[test]
    fn an_old_generation_claims_nothing() {
        let segment = block();
        let control = Control::new(segment.map(), HEADER);
        control.offer(0, 1, 1);
        assert_eq!(control.revoke(0, |_| 0).next, 0);
        control.offer(0, 2, MOST_ITEMS);
        assert_eq!(control.claim(0, 1), None);
        assert_eq!(control.claim(0, 2), Some(0));
        assert_eq!(control.look(0), Claim { generation: 2, next: 1, limit: MOST_ITEMS });
    }

    #[test]
    fn a_slate_is_for_one_record() {
        let segment = block();
        let control = Control::new(segment.map(), HEADER);
        assert_eq!(control.slate(0), None);
        control.begin_slate(4, 77);
        let mut bytes = Vec::new();
        for item in 1..=5_u8 {
            let from = bytes.len();
            bytes.extend([item; 5]);
            control.note_on_slate(0x1_0007, item.into(), &bytes, from);
        }
        assert_eq!(control.slate(7), Some(Slate { items: 5, encoding: 4, started: 77, bytes }));
        assert_eq!(control.slate(8), None);
        control.wipe_slate();
        assert_eq!(control.slate(7), None);
    }

    #[test]
    fn each_item_goes_to_one_side_alone() {
        let segment = block();
        let control = Control::new(segment.map(), HEADER);
        for round in 0..100 {
            control.offer(0, round, 1000);
            let (claimed, kept) = std::thread::scope(|scope| {
                let worker = scope.spawn(|| std::iter::from_fn(|| control.claim(0, round)).count());
                let owner = scope.spawn(|| control.revoke(0, |open| open / 3));
                (worker.join().unwrap(), owner.join().unwrap())
            });
            assert_eq!(claimed, kept.limit as usize);
        }
    }
}
