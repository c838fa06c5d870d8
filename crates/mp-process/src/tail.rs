//! The last bytes of what children write.
//!
//! One thread of this process, `mp-tails`, reads the pipes of all children whose output is kept, in one poll; it is started with the
//! first and ends with the last. So a child never waits for somebody who wants its output, and an idle one costs nothing.
//!
//! Invariants:
//! 1. A pipe is read and its bytes are kept under one lock, so the bytes stay in order whoever reads: the thread, or somebody who wants
//!    to know what there is now. After a death the latter finds all that was written before it.
//! 2. A tail is in `READERS` until its pipe has ended or nobody can ask for it any more; the thread lives while one is there.
//! 3. No lock is held while the thread sleeps.
//!
//! | dies | then |
//! | --- | --- |
//! | the child | what it wrote is in the pipe, and is read |
//! | the child, with children of its own that keep the pipe open | they are read on, while somebody holds the handle |
//! | this process | the pipe has no reader: writing is an error |

use mp_core::park;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, process, thread};

/// How much is read before the next pipe has its turn; several times what a pipe holds.
const TURN: usize = 16;
const CHUNK: usize = 64 << 10;

/// The last bytes of one stream. Dropping it lets the thread forget the pipe.
#[derive(Debug)]
pub(crate) struct Tail(Arc<Stream>);

#[derive(Debug)]
struct Stream {
    /// Does not block.
    pipe: OwnedFd,
    length: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// Nothing more comes, or nobody asks any more.
    ended: bool,
}

#[derive(Debug, Default)]
struct Readers {
    /// The process that reads; a forked child of it has its own.
    owner: u32,
    streams: Vec<Arc<Stream>>,
    /// Rings for the thread; present while it runs.
    bell: Option<Arc<OwnedFd>>,
}

static READERS: Mutex<Readers> = Mutex::new(Readers { owner: 0, streams: Vec::new(), bell: None });

fn readers() -> MutexGuard<'static, Readers> {
    let mut readers = READERS.lock().unwrap_or_else(PoisonError::into_inner);
    if readers.owner != process::id() {
        *readers = Readers { owner: process::id(), ..Readers::default() };
    }
    readers
}

impl Tail {
    /// Keeps the last `length` bytes of what comes through `pipe`, from now on.
    pub(crate) fn of(pipe: OwnedFd, length: usize) -> io::Result<Tail> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let stream = Arc::new(Stream { pipe, length, kept: Mutex::default() });
        let mut readers = readers();
        if let Some(bell) = &readers.bell {
            ring(bell);
        } else {
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let for_thread = Arc::clone(&bell);
            thread::Builder::new().name("mp-tails".into()).spawn(move || read_all(&for_thread))?;
            readers.bell = Some(bell);
        }
        readers.streams.push(Arc::clone(&stream));
        Ok(Tail(stream))
    }

    /// What there is now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.read(&mut vec![0; CHUNK]);
        let kept = self.0.kept();
        let (front, back) = kept.bytes.as_slices();
        [front, back].concat()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if !std::mem::replace(&mut self.0.kept().ended, true)
            && let Some(bell) = &readers().bell
        {
            ring(bell);
        }
    }
}

impl Stream {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is in the pipe, at most a turn.
    fn read(&self, chunk: &mut [u8]) {
        let mut kept = self.kept();
        for _ in 0..TURN {
            if kept.ended {
                return;
            }
            match rustix::io::read(&self.pipe, &mut *chunk) {
                Ok(0) => kept.ended = true,
                Ok(length) => kept.push(&chunk[..length], self.length),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => kept.ended = true,
            }
        }
    }
}

impl Kept {
    fn push(&mut self, bytes: &[u8], most: usize) {
        let bytes = &bytes[bytes.len().saturating_sub(most)..];
        let over = (self.bytes.len() + bytes.len()).saturating_sub(most);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
    }
}

fn ring(bell: &OwnedFd) {
    // Full means rung.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn read_all(bell: &OwnedFd) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let streams: Vec<Arc<Stream>> = {
            let mut readers = readers();
            readers.streams.retain(|stream| !stream.kept().ended);
            if readers.streams.is_empty() {
                readers.bell = None;
                return;
            }
            readers.streams.clone()
        };
        let mut polled = vec![PollFd::new(bell, PollFlags::IN)];
        polled.extend(streams.iter().map(|stream| PollFd::new(&stream.pipe, PollFlags::IN)));
        // What is written, closed or rung makes one readable and keeps it so: nothing can be missed, so no slices.
        if park::poll_once(&mut polled, None).is_err() {
            thread::yield_now();
        }
        if !polled[0].revents().is_empty() {
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        for (stream, polled) in streams.iter().zip(&polled[1..]) {
            if !polled.revents().is_empty() {
                stream.read(&mut chunk);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more() {
        let mut kept = Kept::default();
        kept.push(b"abc", 4);
        kept.push(b"de", 4);
        assert_eq!(kept.bytes, *b"bcde");
        kept.push(b"0123456789", 4);
        assert_eq!(kept.bytes, *b"6789");
        kept.push(b"", 4);
        kept.push(b"x", 0);
        assert_eq!(kept.bytes, b"");
    }
}
