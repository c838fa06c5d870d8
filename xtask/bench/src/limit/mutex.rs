//! The limit of a lock: a robust mutex of the system, shared between processes, and nothing around it.
#![expect(unsafe_code, reason = "pthread mutexes are not in rustix")]

use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;

use memmap2::MmapMut;

use crate::contestant::Measured;
use crate::meter::Meter;

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
unsafe fn init(mutex: *mut libc::pthread_mutex_t) -> io::Result<()> {
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

fn succeeded(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}
