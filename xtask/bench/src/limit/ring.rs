//! Two rings in shared memory, one each way: one writer, one reader, slots of 64 bytes.
//!
//! `written` and `taken` count messages, modulo 2^32. Invariant: `taken <= written <= taken + SLOTS`; the slots in
//! between are the reader's, all others the writer's. The release store of `written` pairs with the reader's acquire
//! load, that of `taken` with the writer's. `taken` is published late, a quarter of the ring at a time.
//!
//! A side that finds nothing spins, then says so in its word and sleeps on the other's count; whoever publishes looks
//! at that word. The barrier stands between store and load on both sides; a slice bounds what else could go wrong.
#![expect(unsafe_code, reason = "slots in memory that two processes share")]

use std::cell::UnsafeCell;
use std::fs::File;
use std::hint::spin_loop;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::futex;

use super::barrier::Barrier;

const SLOTS: u32 = 1024;
const SLICE: Duration = Duration::from_millis(100);

/// Bytes of a slot, and so the longest message.
pub(super) const SLOT: usize = 64;

/// Alone in its cache line, and in the one that the processor fetches along.
#[repr(C, align(128))]
pub(super) struct Word(pub(super) AtomicU32);

#[repr(C, align(64))]
struct Slot(UnsafeCell<[u8; SLOT]>);

#[repr(C)]
struct Lane {
    written: Word,
    taken: Word,
    reader_sleeps: Word,
    writer_sleeps: Word,
    slots: [Slot; SLOTS as usize],
}

/// How a side waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Pauses before it sleeps.
    pub(super) spins: u32,
    pub(super) barrier: Barrier,
}

/// The memory of both lanes; as long as they are, checked by `open`.
#[derive(Debug)]
struct Memory(MmapRaw);

impl Memory {
    fn lane(&self, index: usize) -> &Lane {
        assert!(index < 2, "two lanes");
        let lanes = self.0.as_mut_ptr().cast::<Lane>();
        // SAFETY: within the mapping: the index was just checked, the length in `open`.
        let lane = unsafe { lanes.add(index) };
        // SAFETY: mapped as long as `self`, aligned to a page, zeroes are a lane; every field is an atomic or in a cell.
        unsafe { &*lane }
    }
}

/// Both ends of one side.
#[derive(Debug)]
pub(super) struct Side {
    memory: Memory,
    waiting: Waiting,
    /// The lane that this side writes; it reads the other.
    out: usize,
    written: u32,
    seen_taken: u32,
    taken: u32,
    published: u32,
    seen_written: u32,
}

/// A new pair of lanes: this side of them, and the file for the other.
pub(super) fn create(waiting: Waiting) -> io::Result<(Side, OwnedFd)> {
    let fd = memfd_create("bench-ring", MemfdFlags::CLOEXEC)?;
    let file = File::from(fd);
    file.set_len(size_of::<[Lane; 2]>() as u64)?;
    Ok((open(&file, 0, waiting)?, file.into()))
}

/// The side that writes lane `out` of the lanes in `file`. Each of the two may be opened once.
pub(super) fn open(file: &File, out: usize, waiting: Waiting) -> io::Result<Side> {
    let memory = Memory(MmapRaw::map_raw(file)?);
    assert_eq!(memory.0.len(), size_of::<[Lane; 2]>(), "the file holds two lanes");
    let side =
        Side { memory, waiting, out, written: 0, seen_taken: 0, taken: 0, published: 0, seen_written: 0 };
    Ok(side)
}

impl Side {
    /// False when the ring is full.
    pub(super) fn try_send(&mut self, message: &[u8]) -> bool {
        assert!(message.len() <= SLOT, "a message fits a slot");
        let lane = self.memory.lane(self.out);
        if self.written.wrapping_sub(self.seen_taken) == SLOTS {
            self.seen_taken = lane.taken.0.load(Ordering::Acquire);
            if self.written.wrapping_sub(self.seen_taken) == SLOTS {
                return false;
            }
        }
        let slot = lane.slots[(self.written % SLOTS) as usize].0.get().cast::<u8>();
        // SAFETY: the slot is the writer's by the invariant, and this is the only writer; the length was checked.
        unsafe { slot.copy_from_nonoverlapping(message.as_ptr(), message.len()) };
        self.written = self.written.wrapping_add(1);
        lane.written.0.store(self.written, Ordering::Release);
        self.waiting.wake(&lane.reader_sleeps, &lane.written);
        true
    }

    /// False when the ring is empty.
    pub(super) fn try_recv(&mut self, buffer: &mut [u8]) -> bool {
        assert!(buffer.len() <= SLOT, "a message comes from a slot");
        let lane = self.memory.lane(1 - self.out);
        if self.taken == self.seen_written {
            self.seen_written = lane.written.0.load(Ordering::Acquire);
            if self.taken == self.seen_written {
                return false;
            }
        }
        let slot = lane.slots[(self.taken % SLOTS) as usize].0.get().cast::<u8>();
        // SAFETY: the slot is the reader's by the invariant, and this is the only reader; the length was checked.
        unsafe { slot.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
        self.taken = self.taken.wrapping_add(1);
        if self.taken.wrapping_sub(self.published) >= SLOTS / 4 {
            self.published = self.taken;
            lane.taken.0.store(self.taken, Ordering::Release);
            self.waiting.wake(&lane.writer_sleeps, &lane.taken);
        }
        true
    }

    /// Waits for space. A reader that has taken all has published all but a quarter, so there is an end to it.
    pub(super) fn send(&mut self, message: &[u8]) {
        while !self.try_send(message) {
            let lane = self.memory.lane(self.out);
            self.waiting.wait(&lane.writer_sleeps, &lane.taken, self.seen_taken);
        }
    }

    /// Waits for a message.
    pub(super) fn recv(&mut self, buffer: &mut [u8]) {
        while !self.try_recv(buffer) {
            let lane = self.memory.lane(1 - self.out);
            self.waiting.wait(&lane.reader_sleeps, &lane.written, self.seen_written);
        }
    }
}

impl Waiting {
    /// Returns when `count` is no longer `seen`, or a slice has passed.
    pub(super) fn wait(self, sleeps: &Word, count: &Word, seen: u32) {
        for _ in 0..self.spins {
            if count.0.load(Ordering::Relaxed) != seen {
                return;
            }
            spin_loop();
        }
        sleeps.0.store(1, Ordering::Relaxed);
        self.barrier.asleep();
        let slice = futex::Timespec { tv_sec: 0, tv_nsec: SLICE.subsec_nanos().into() };
        // Changed meanwhile, interrupted, or too long: the caller looks again in each case.
        let _ = futex::wait(&count.0, futex::Flags::empty(), seen, Some(&slice));
        sleeps.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn wake(self, sleeps: &Word, count: &Word) {
        self.barrier.awake();
        if sleeps.0.load(Ordering::Relaxed) != 0 {
            // Nothing to do for one who does not sleep after all.
            let _ = futex::wake(&count.0, futex::Flags::empty(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order() {
        for waiting in
            [Waiting { spins: 100, barrier: Barrier::best() }, Waiting { spins: 0, barrier: Barrier::Fenced }]
        {
            let (mut here, fd) = create(waiting).expect("a memfd");
            let mut there = open(&fd.into(), 1, waiting).expect("a mapping");
            let other = std::thread::spawn(move || {
                let mut buffer = [0; 8];
                for number in 0..10_000_u64 {
                    there.recv(&mut buffer);
                    assert_eq!(u64::from_ne_bytes(buffer), number);
                }
                there.send(&buffer);
            });
            for number in 0..10_000_u64 {
                here.send(&number.to_ne_bytes());
            }
            let mut buffer = [0; 8];
            here.recv(&mut buffer);
            assert_eq!(u64::from_ne_bytes(buffer), 9_999);
            other.join().expect("it asserts in order");
        }
    }

    #[test]
    fn full_is_told() {
        let waiting = Waiting { spins: 0, barrier: Barrier::Fenced };
        let (mut here, _fd) = create(waiting).expect("a memfd");
        let sent = (0..).take_while(|_| here.try_send(b"x")).count();
        assert_eq!(sent, SLOTS as usize);
    }
}
