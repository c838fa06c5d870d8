//! Every interleaving of the words that the two sides of a ring share.
#![cfg(loom)]
#![expect(unsafe_code, reason = "the models' cells, at which loom sees who touches them together")]
#![allow(dead_code, unreachable_pub, reason = "the machine is included whole")]

/// What the machine finds in the place of the crate's own atomics.
mod sync {
    pub(super) use loom::sync::atomic::fence;
    pub(super) type AtomicU32 = loom::sync::atomic::AtomicU32;
    pub(super) type AtomicU64 = loom::sync::atomic::AtomicU64;
}

#[path = "../src/ring/raw.rs"]
mod raw;

#[path = "../src/ring/spare.rs"]
mod spare;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use loom::sync::atomic::fence;
use loom::thread;
use sync::{AtomicU32, AtomicU64};

/// A ring whose messages are of one number each, with room for two. Loom fails when two threads may touch a cell at once.
struct Ring {
    published: AtomicU64,
    tail: [AtomicU64; 2],
    taken: AtomicU64,
    head: [AtomicU64; 2],
    reader_asleep: AtomicU32,
    writer_asleep: AtomicU32,
    bells: [AtomicU32; 2],
    cells: [UnsafeCell<u64>; 2],
}

impl Ring {
    fn new() -> Arc<Ring> {
        let word = || AtomicU64::new(0);
        let small = || AtomicU32::new(0);
        Arc::new(Ring {
            published: word(),
            tail: [word(), word()],
            taken: word(),
            head: [word(), word()],
            reader_asleep: small(),
            writer_asleep: small(),
            bells: [small(), small()],
            cells: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn tails(&self) -> [&AtomicU64; 2] {
        [&self.tail[0], &self.tail[1]]
    }

    fn heads(&self) -> [&AtomicU64; 2] {
        [&self.head[0], &self.head[1]]
    }

    fn cell(&self, position: u64) -> &UnsafeCell<u64> {
        &self.cells[usize::try_from(position % 2).unwrap()]
    }

    fn fill(&self, position: u64, value: u64) {
        // SAFETY: loom fails the test before two threads are at it.
        self.cell(position).with_mut(|cell| unsafe { *cell = value });
    }

    /// False when there is no room.
    fn try_send(&self, value: u64) -> bool {
        let (published, tail) = raw::own(&self.published, self.tails());
        if tail - raw::others(&self.taken, self.heads()) == 2 {
            return false;
        }
        self.fill(tail, value);
        raw::commit(&self.published, self.tails(), published + 1, tail + 1, || {});
        self.wake(0);
        true
    }

    fn try_recv(&self) -> Option<u64> {
        let (taken, head) = raw::own(&self.taken, self.heads());
        if self.published.load(Acquire) == taken {
            return None;
        }
        // SAFETY: loom fails the test before two threads are at it.
        let value = self.cell(head).with(|cell| unsafe { *cell });
        raw::commit(&self.taken, self.heads(), taken + 1, head + 1, || {});
        self.wake(1);
        Some(value)
    }

    fn asleep(&self, side: usize) -> &AtomicU32 {
        if side == 0 { &self.reader_asleep } else { &self.writer_asleep }
    }

    /// One that dozes sees by the word that it is woken; only one that sleeps is rung for.
    fn wake(&self, side: usize) {
        if raw::must_wake(self.asleep(side), || fence(SeqCst)) == raw::ASLEEP {
            self.bells[side].store(1, SeqCst);
        }
    }

    /// Dozes until woken, or until the time is over, which is when loom likes. Nothing keeps the look from coming before the announcement.
    fn doze(&self, side: usize, reason: impl Fn() -> bool) {
        let asleep = self.asleep(side);
        raw::doze(
            asleep,
            || {},
            reason,
            || {
                if asleep.load(Acquire) == raw::DOZING {
                    thread::yield_now();
                }
            },
        );
    }

    /// Sleeps for ever unless rung for: there is no slice in here, so loom finds each lost wake.
    fn sleep(&self, side: usize, reason: impl Fn() -> bool) {
        let asleep = self.asleep(side);
        let bell = &self.bells[side];
        if raw::may_sleep(asleep, || fence(SeqCst), reason, || {}) {
            while bell.load(SeqCst) == 0 {
                thread::yield_now();
            }
            asleep.store(0, Relaxed);
        }
        bell.store(0, SeqCst);
    }
}

#[test]
fn messages_arrive_whole_and_in_order() {
    loom::model(|| {
        let ring = Ring::new();
        let there = Arc::clone(&ring);
        let writer = thread::spawn(move || {
            for value in [11, 12, 13] {
                while !there.try_send(value) {
                    thread::yield_now();
                }
            }
        });
        for value in [11, 12, 13] {
            let found = loop {
                match ring.try_recv() {
                    Some(found) => break found,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(found, value);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_sleeping_reader_is_woken() {
    loom::model(|| {
        let ring = Ring::new();
        let there = Arc::clone(&ring);
        let writer = thread::spawn(move || {
            assert!(there.try_send(1));
            assert!(there.try_send(2));
        });
        for value in [1, 2] {
            loop {
                if let Some(found) = ring.try_recv() {
                    assert_eq!(found, value);
                    break;
                }
                ring.sleep(0, || ring.published.load(Acquire) == ring.taken.load(Relaxed));
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_doze_before_a_sleep_misses_nothing() {
    loom::model(|| {
        let ring = Ring::new();
        let there = Arc::clone(&ring);
        let writer = thread::spawn(move || assert!(there.try_send(1)));
        let nothing = || ring.published.load(Acquire) == ring.taken.load(Relaxed);
        let found = loop {
            if let Some(found) = ring.try_recv() {
                break found;
            }
            ring.doze(0, nothing);
            if nothing() {
                ring.sleep(0, nothing);
            }
        };
        assert_eq!(found, 1);
        writer.join().unwrap();
    });
}

#[test]
fn a_sleeping_writer_is_woken() {
    loom::model(|| {
        let ring = Ring::new();
        assert!(ring.try_send(1));
        assert!(ring.try_send(2));
        let there = Arc::clone(&ring);
        let reader = thread::spawn(move || assert_eq!(there.try_recv(), Some(1)));
        loop {
            let taken = ring.taken.load(Acquire);
            if ring.try_send(3) {
                break;
            }
            ring.sleep(1, || ring.taken.load(Acquire) == taken);
        }
        reader.join().unwrap();
    });
}

#[test]
fn who_died_before_the_count_has_sent_nothing() {
    loom::model(|| {
        let ring = Ring::new();
        assert!(ring.try_send(1));
        let there = Arc::clone(&ring);
        let writers = thread::spawn(move || {
            // The first one dies with the place stored and the count not; the next one begins again.
            let (published, tail) = raw::own(&there.published, there.tails());
            there.fill(tail, 99);
            there.tail[raw::parity(published + 1)].store(tail + 1, Relaxed);
            assert!(there.try_send(2));
        });
        assert_eq!(ring.try_recv(), Some(1));
        let second = ring.try_recv();
        assert!(second.is_none() || second == Some(2));
        writers.join().unwrap();
        assert_eq!(second.or_else(|| ring.try_recv()), Some(2));
        assert_eq!(ring.try_recv(), None);
    });
}

/// The words of a spare, and the memory that goes from hand to hand: loom fails when two may touch it at once.
struct Memory {
    words: [AtomicU64; 3],
    cells: [UnsafeCell<u64>; 2],
}

impl Memory {
    fn new() -> Arc<Memory> {
        let word = || AtomicU64::new(0);
        let cell = || UnsafeCell::new(0);
        Arc::new(Memory { words: [word(), word(), word()], cells: [cell(), cell()] })
    }

    fn spare(&self) -> spare::Spare<'_> {
        let [state, offset, size] = &self.words;
        spare::Spare { state, offset, size }
    }

    fn touch(&self, extent: spare::Extent) {
        assert_eq!(extent.size, extent.offset + 10, "of one region");
        // SAFETY: loom fails the test before two threads are at it.
        self.cells[usize::try_from(extent.offset).unwrap()].with_mut(|cell| unsafe { *cell += 1 });
    }
}

#[test]
fn spare_memory_has_one_owner() {
    loom::model(|| {
        let memory = Memory::new();
        let there = Arc::clone(&memory);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                if let Some(extent) = there.spare().take(|_| true) {
                    there.touch(extent);
                    there.spare().done();
                }
            }
        });
        let spare = memory.spare();
        for region in 0..2 {
            let extent = spare::Extent { offset: region, size: region + 10 };
            memory.touch(extent);
            if spare.offer(region, extent) {
                assert!(spare.was_offered(region) && !spare.offer(region, extent));
            } else {
                memory.touch(extent);
            }
        }
        if let Some(extent) = spare.reclaim() {
            memory.touch(extent);
            spare.done();
        }
        writer.join().unwrap();
    });
}
