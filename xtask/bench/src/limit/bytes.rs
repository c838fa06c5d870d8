//! Two rings of bytes in shared memory, one each way: one writer, one reader, lengths that both know.
//!
//! `written` and `taken` count bytes, modulo 2^32. Invariant: `taken <= written <= taken + BYTES`; the bytes in between are the
//! reader's, all others the writer's. The release store of either pairs with the other side's acquire load. A message goes in
//! parts, so that both sides copy at the same time. Waiting is as in the ring of slots.
#![expect(unsafe_code, reason = "bytes in memory that two processes share")]

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, memfd_create};

use super::links::waiting;
use super::ring::{Waiting, Word};
use crate::contestant::{Failure, Measured};
use crate::lane::{self, Lane};
use crate::meter::Meter;
use crate::{cores, role};

const BYTES: usize = 1 << 20;
const PART: usize = 1 << 16;

#[repr(C)]
struct Way {
    written: Word,
    taken: Word,
    reader_sleeps: Word,
    writer_sleeps: Word,
    bytes: UnsafeCell<[u8; BYTES]>,
}

struct Side {
    memory: MmapRaw,
    waiting: Waiting,
    out: usize,
    written: u32,
    taken: u32,
}

impl Side {
    fn open(file: &File, out: usize) -> io::Result<Self> {
        let memory = MmapRaw::map_raw(file)?;
        assert_eq!(memory.len(), size_of::<[Way; 2]>(), "the file holds both ways");
        Ok(Self { memory, waiting: waiting("spinning"), out, written: 0, taken: 0 })
    }

    fn way(&self, index: usize) -> &Way {
        // SAFETY: one of two, which the mapping holds as `open` has checked.
        let way = unsafe { self.memory.as_mut_ptr().cast::<Way>().add(index & 1) };
        // SAFETY: mapped as long as `self`, aligned to a page, zeroes are one; every field is an atomic or a cell.
        unsafe { &*way }
    }
}

/// Where `at` is, and how many of `len` bytes follow each other there.
fn part(way: &Way, at: u32, len: usize) -> (*mut u8, usize) {
    let at = at as usize % BYTES;
    // SAFETY: within the array.
    let place = unsafe { way.bytes.get().cast::<u8>().add(at) };
    (place, len.min(PART).min(BYTES - at))
}

impl Lane for Side {
    fn send(&mut self, mut message: &[u8]) -> Result<(), Failure> {
        let mut written = self.written;
        let way = self.way(self.out);
        while !message.is_empty() {
            let taken = way.taken.0.load(Ordering::Acquire);
            let free = BYTES - written.wrapping_sub(taken) as usize;
            if free == 0 {
                self.waiting.wait(&way.writer_sleeps, &way.taken, taken);
                continue;
            }
            let (to, len) = part(way, written, message.len().min(free));
            // SAFETY: the writer's own by the invariant, and this is the only writer.
            unsafe { to.copy_from_nonoverlapping(message.as_ptr(), len) };
            message = &message[len..];
            written = written.wrapping_add(len as u32);
            way.written.0.store(written, Ordering::Release);
            self.waiting.wake(&way.reader_sleeps, &way.written);
        }
        self.written = written;
        Ok(())
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let mut taken = self.taken;
        let way = self.way(1 - self.out);
        let mut rest = &mut buffer[..];
        while !rest.is_empty() {
            let written = way.written.0.load(Ordering::Acquire);
            let there = written.wrapping_sub(taken) as usize;
            if there == 0 {
                self.waiting.wait(&way.reader_sleeps, &way.written, written);
                continue;
            }
            let (from, len) = part(way, taken, rest.len().min(there));
            // SAFETY: the reader's own by the invariant, and this is the only reader.
            unsafe { from.copy_to_nonoverlapping(rest.as_mut_ptr(), len) };
            rest = &mut rest[len..];
            taken = taken.wrapping_add(len as u32);
            way.taken.0.store(taken, Ordering::Release);
            self.waiting.wake(&way.writer_sleeps, &way.taken);
        }
        self.taken = taken;
        Ok(())
    }
}

pub(crate) fn stream<const SIZE: usize>(meter: &mut Meter) -> Measured {
    let file = File::from(memfd_create("bench-bytes", MemfdFlags::CLOEXEC)?);
    file.set_len(size_of::<[Way; 2]>() as u64)?;
    let mut side = Side::open(&file, 0)?;
    let child = role::command("bytes", &SIZE.to_string(), file)?.spawn()?;
    lane::stream::<SIZE>(meter, &mut side)?;
    role::finish(child)
}

/// The second process: the memory is its standard input.
pub(crate) fn serve(size: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let mut side = Side::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?), 1)?;
    lane::serve(size.parse()?, &mut side)
}
