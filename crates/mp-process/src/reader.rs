//! One thread of this process that reads what children send without being asked: the output whose tail is kept, records of logs.
//!
//! It sleeps in one poll over all of them, is started with the first and ends with the last. So a child never waits for somebody who
//! wants what it sends, and an idle one costs nothing.
//!
//! Invariants:
//! 1. A source is read under its own lock, by the thread or by somebody who wants to know what there is now: what comes stays in order,
//!    and after a death everything that was sent before it is found.
//! 2. A source is in `READERS` until it has ended; the thread lives while one is there.
//! 3. No lock of this module is held while the thread sleeps or reads.

use mp_core::park;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, process, thread};

/// The most that is read at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// Something that a child sends.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Readable when there is something, or will be nothing more.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes what is there, but not for ever; does not block.
    fn read(&self, chunk: &mut [u8]);

    /// Whether nothing more comes, or nobody asks any more.
    fn has_ended(&self) -> bool;
}

#[derive(Debug, Default)]
struct Readers {
    /// The process that reads; a forked child of it has its own.
    owner: u32,
    sources: Vec<Arc<dyn Source>>,
    /// Rings for the thread; present while it runs.
    bell: Option<Arc<OwnedFd>>,
}

static READERS: Mutex<Readers> = Mutex::new(Readers { owner: 0, sources: Vec::new(), bell: None });

fn readers() -> MutexGuard<'static, Readers> {
    let mut readers = hold().0;
    if readers.owner != process::id() {
        *readers = Readers { owner: process::id(), ..Readers::default() };
    }
    readers
}

/// Keeps the list whole over a fork of this process; the child lets go of it when it first looks.
pub(crate) fn hold() -> Held {
    Held(READERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The list, locked over a fork.
#[derive(Debug)]
pub(crate) struct Held(MutexGuard<'static, Readers>);

/// Has `source` read from now on.
pub(crate) fn enter(source: Arc<dyn Source>) -> io::Result<()> {
    let mut readers = readers();
    if let Some(bell) = &readers.bell {
        ring(bell);
    } else {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let for_thread = Arc::clone(&bell);
        thread::Builder::new().name("mp-reader".into()).spawn(move || read_all(&for_thread))?;
        readers.bell = Some(bell);
    }
    readers.sources.push(source);
    Ok(())
}

/// Has the thread look again who has ended.
pub(crate) fn look_again() {
    if let Some(bell) = &readers().bell {
        ring(bell);
    }
}

fn ring(bell: &OwnedFd) {
    // Full means rung.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn read_all(bell: &OwnedFd) {
    crate::sys::process::block_signals();
    let mut chunk = vec![0; CHUNK];
    loop {
        let sources: Vec<Arc<dyn Source>> = {
            let mut readers = readers();
            readers.sources.retain(|source| !source.has_ended());
            if readers.sources.is_empty() {
                readers.bell = None;
                return;
            }
            readers.sources.clone()
        };
        let mut polled = vec![PollFd::new(bell, PollFlags::IN)];
        polled.extend(sources.iter().map(|source| PollFd::from_borrowed_fd(source.fd(), PollFlags::IN)));
        // What is sent, closed or rung makes one readable and keeps it so: nothing can be missed, so no slices.
        if park::poll_once(&mut polled, None).is_err() {
            thread::yield_now();
        }
        if !polled[0].revents().is_empty() {
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        for (source, polled) in sources.iter().zip(&polled[1..]) {
            if !polled.revents().is_empty() {
                source.read(&mut chunk);
            }
        }
    }
}
