//! A ring in shared memory with a robust mutex at each end: any number write, any number read, slots of 64 bytes.
//!
//! `written` and `taken` count messages, modulo 2^32, each changed under its side's mutex only. Invariant: `taken <= written <= taken +
//! SLOTS`; the slots in between are the readers', all others the writers'. The release store of either pairs with the other side's acquire
//! load. A side with nothing to do gives its mutex back, spins, says that it sleeps, and sleeps on the other's count; who wakes, wakes all.
#![expect(unsafe_code, reason = "slots in memory that processes share, and pthread mutexes")]

use std::cell::UnsafeCell;
use std::fs::File;
use std::hint::spin_loop;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use memmap2::MmapRaw;
use multiprocess::lock::Passed;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::thread::futex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::mutex::{init, succeeded};
use crate::contestant::{Failure, Measured};
use crate::many::{self, Ends, Lane, SIZE};
use crate::meter::Meter;

const SLOTS: u32 = 1024;
const SPINS: u32 = 100;
const SLICE: Duration = Duration::from_millis(100);

/// One side: its mutex, how many messages it has done, and whether some of the *other* side sleep for that.
#[repr(C, align(128))]
struct End {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    count: Apart,
    asleep: Apart,
}

/// Alone in its cache line, and in the one that the processor fetches along.
#[repr(C, align(128))]
struct Apart(AtomicU32);

#[repr(C, align(64))]
struct Slot(UnsafeCell<[u8; SIZE]>);

#[repr(C)]
struct Shared {
    written: End,
    taken: End,
    slots: [Slot; SLOTS as usize],
}

pub(crate) fn stream<const PAIRS: u64>(meter: &mut Meter) -> Measured {
    let file = File::from(memfd_create("bench-many", MemfdFlags::CLOEXEC)?);
    file.set_len(size_of::<Shared>() as u64)?;
    let ring = Ring::open(&file)?;
    for end in [&ring.shared().written, &ring.shared().taken] {
        // SAFETY: memory for a mutex, and nobody else has it yet.
        unsafe { init(end.mutex.get())? };
    }
    many::between_processes(meter, Memory(Arc::new(Passed(OwnedFd::from(file)))), PAIRS)
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Memory(#[serde(with = "shared")] Arc<Passed<OwnedFd>>);

/// A descriptor behind an `Arc` crosses as itself.
mod shared {
    use super::{Arc, OwnedFd, Passed};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(fd: &Passed<OwnedFd>, serializer: S) -> Result<S::Ok, S::Error> {
        fd.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Passed<OwnedFd>>, D::Error> {
        Passed::deserialize(from).map(Arc::new)
    }
}

impl Ends for Memory {
    type Parcel = [u8; SIZE];
    type Lane = Ring;

    fn open(self) -> Result<Ring, Failure> {
        Ok(Ring::open(&File::from(self.0.0.try_clone()?))?)
    }
}

struct Ring {
    memory: MmapRaw,
    /// The other side's counts when last looked.
    seen_written: u32,
    seen_taken: u32,
}

impl Ring {
    fn open(file: &File) -> io::Result<Ring> {
        let memory = MmapRaw::map_raw(file)?;
        assert_eq!(memory.len(), size_of::<Shared>(), "the file holds the ring");
        Ok(Ring { memory, seen_written: 0, seen_taken: 0 })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped as long as `self`, of that size, aligned to a page; every field is an atomic or in a cell.
        unsafe { &*self.memory.as_mut_ptr().cast::<Shared>() }
    }
}

impl Lane<[u8; SIZE]> for Ring {
    fn put(&mut self, message: &[u8; SIZE]) -> Result<(), Failure> {
        let shared: *const Shared = self.shared();
        // SAFETY: as in `shared`; apart from the borrow of `self`, whose memory stays mapped.
        let shared = unsafe { &*shared };
        loop {
            let locked = lock(&shared.written)?;
            let written = shared.written.count.0.load(Ordering::Relaxed);
            if written.wrapping_sub(self.seen_taken) >= SLOTS {
                self.seen_taken = shared.taken.count.0.load(Ordering::Acquire);
            }
            if written.wrapping_sub(self.seen_taken) < SLOTS {
                let slot = shared.slots[(written % SLOTS) as usize].0.get();
                // SAFETY: the slot is the writers' by the invariant, and their mutex is held.
                unsafe { *slot = *message };
                shared.written.count.0.store(written.wrapping_add(1), Ordering::Release);
                drop(locked);
                wake(&shared.written);
                return Ok(());
            }
            drop(locked);
            wait(&shared.taken, self.seen_taken);
        }
    }

    fn take(&mut self) -> Result<[u8; SIZE], Failure> {
        let shared: *const Shared = self.shared();
        // SAFETY: as in `put`.
        let shared = unsafe { &*shared };
        loop {
            let locked = lock(&shared.taken)?;
            let taken = shared.taken.count.0.load(Ordering::Relaxed);
            // Another reader may have gone beyond what this one saw.
            if self.seen_written.wrapping_sub(taken).cast_signed() <= 0 {
                self.seen_written = shared.written.count.0.load(Ordering::Acquire);
            }
            if self.seen_written != taken {
                let slot = shared.slots[(taken % SLOTS) as usize].0.get();
                // SAFETY: the slot is the readers' by the invariant, and their mutex is held.
                let message = unsafe { *slot };
                shared.taken.count.0.store(taken.wrapping_add(1), Ordering::Release);
                drop(locked);
                wake(&shared.taken);
                return Ok(message);
            }
            drop(locked);
            wait(&shared.written, taken);
        }
    }
}

struct Locked<'a>(&'a End);

fn lock(end: &End) -> io::Result<Locked<'_>> {
    // SAFETY: initialised in `stream`, before any other process had it.
    succeeded(unsafe { libc::pthread_mutex_lock(end.mutex.get()) })?;
    Ok(Locked(end))
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: initialised, and locked by this thread.
        unsafe { libc::pthread_mutex_unlock(self.0.mutex.get()) };
    }
}

/// After the unlock, whose exchange is a full barrier on x86-64.
fn wake(end: &End) {
    if !cfg!(target_arch = "x86_64") {
        fence(Ordering::SeqCst);
    }
    if end.asleep.0.load(Ordering::Relaxed) != 0 && end.asleep.0.swap(0, Ordering::Relaxed) != 0 {
        // Nothing to do for those who do not sleep after all.
        let _ = futex::wake(&end.count.0, futex::Flags::empty(), i32::MAX as u32);
    }
}

/// Returns when the other side's count is no longer `seen`, or a slice has passed.
fn wait(other: &End, seen: u32) {
    for _ in 0..SPINS {
        if other.count.0.load(Ordering::Relaxed) != seen {
            return;
        }
        spin_loop();
    }
    other.asleep.0.swap(1, Ordering::SeqCst);
    let slice = futex::Timespec { tv_sec: 0, tv_nsec: SLICE.subsec_nanos().into() };
    // Changed meanwhile, interrupted, or too long: the caller looks again in each case.
    let _ = futex::wait(&other.count.0, futex::Flags::empty(), seen, Some(&slice));
}
