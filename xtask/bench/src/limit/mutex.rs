//! The limit of a lock: a robust mutex of the system, shared between processes, and nothing around it.
#![expect(unsafe_code, reason = "pthread mutexes are not in rustix")]

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use memmap2::MmapMut;

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::{cores, fight, role};

pub(crate) fn lock(meter: &mut Meter) -> Measured {
    let mut memory = shared(size_of::<libc::pthread_mutex_t>())?;
    let mutex: *mut libc::pthread_mutex_t = memory.as_mut_ptr().cast();
    // SAFETY: the mapping is large enough, aligned to a page, and outlives the loop below.
    unsafe { init(mutex)? };
    meter.measure(|n| {
        for _ in 0..n {
            // SAFETY: initialised above.
            succeeded(unsafe { libc::pthread_mutex_lock(mutex) })?;
            black_box(());
            // SAFETY: initialised above, and locked by this thread.
            succeeded(unsafe { libc::pthread_mutex_unlock(mutex) })?;
        }
        Ok(())
    })
}

fn turn(mutex: *mut libc::pthread_mutex_t, inside: &mut dyn FnMut()) -> Result<(), Failure> {
    // SAFETY: initialised by `fight` in memory that the callers keep mapped.
    succeeded(unsafe { libc::pthread_mutex_lock(mutex) })?;
    inside();
    // SAFETY: as above, and locked by this thread.
    Ok(succeeded(unsafe { libc::pthread_mutex_unlock(mutex) })?)
}

pub(crate) fn fight(meter: &mut Meter) -> Measured {
    let (arena, fd) = Arena::create()?;
    let mutex: *mut libc::pthread_mutex_t = arena.room().cast();
    // SAFETY: the room is large enough and aligned, and nobody else has it yet.
    unsafe { init(mutex)? };
    let child = role::command("mutex", "", fd)?.spawn()?;
    fight::measure(meter, &arena, |inside| turn(mutex, inside))?;
    role::finish(child)?;
    fight::check(&arena)
}

/// The second process: the memory is its standard input.
pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    fight::serve(&arena, |inside| turn(arena.room().cast(), inside))
}

/// Memory as locks between processes have it.
pub(crate) fn shared(len: usize) -> io::Result<MmapMut> {
    let fd = rustix::fs::memfd_create("bench-lock", rustix::fs::MemfdFlags::CLOEXEC)?;
    let file = std::fs::File::from(fd);
    file.set_len(len as u64)?;
    // SAFETY: nobody else has this file.
    unsafe { MmapMut::map_mut(&file) }
}

/// # Safety
///
/// `mutex` is memory for one, which no thread uses yet.
pub(super) unsafe fn init(mutex: *mut libc::pthread_mutex_t) -> io::Result<()> {
    let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: memory for attributes.
    succeeded(unsafe { libc::pthread_mutexattr_init(attributes) })?;
    // SAFETY: initialised above.
    succeeded(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) })?;
    // SAFETY: initialised above.
    succeeded(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) })?;
    // SAFETY: the caller's promise, and attributes initialised above.
    succeeded(unsafe { libc::pthread_mutex_init(mutex, attributes) })
}

pub(super) fn succeeded(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}
