//! What a worker writes to its standard error or output: passed on to this process's, and the end of it kept for the report of its
//! death.
//!
//! Nothing here blocks. While this process's own stream takes nothing, the workers' output stays in their pipes, as it would
//! if they wrote there themselves.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// How much of the last words is kept: a failed allocation is told in a line with a backtrace of many behind it.
const TAIL: usize = 64 << 10;
/// How much is passed on at once: what a pipe that is ready takes without blocking.
const PIECE: usize = 4 << 10;

/// So much of one worker is passed on before the pool does something else.
const TURNS: u32 = 16;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Stream {
    /// This process's own.
    pub(crate) fn own(self) -> BorrowedFd<'static> {
        match self {
            Stream::Out => rustix::stdio::stdout(),
            Stream::Err => rustix::stdio::stderr(),
        }
    }

    /// Whether it takes something now; one that is closed or broken swallows everything.
    fn takes_more(self) -> bool {
        let own = self.own();
        let mut polled = [PollFd::new(&own, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)) != Ok(0)
    }
}

#[derive(Debug)]
pub(crate) struct Output {
    stream: Stream,
    pipe: Option<Arc<OwnedFd>>,
    tail: Vec<u8>,
}

impl Output {
    pub(crate) fn new(stream: Stream, pipe: Option<OwnedFd>) -> io::Result<Output> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Output { stream, pipe: pipe.map(Arc::new), tail: Vec::new() })
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// The pipe, until the worker has closed its end.
    pub(crate) fn pipe(&self) -> Option<&Arc<OwnedFd>> {
        self.pipe.as_ref()
    }

    /// The worker's last words.
    pub(crate) fn tail(&self) -> String {
        let from = self.tail.len().saturating_sub(TAIL);
        String::from_utf8_lossy(&self.tail[from..]).into_owned()
    }

    /// Passes on what is there; false when this process's own stream takes nothing now.
    pub(crate) fn forward(&mut self) -> bool {
        for _ in 0..TURNS {
            if self.pipe.is_some() && !self.stream.takes_more() {
                return false;
            }
            if !self.read(true) {
                return true;
            }
        }
        true
    }

    /// The worker has died: its last words are wanted, whether or not they can be passed on.
    pub(crate) fn finish(&mut self) {
        for _ in 0..TURNS {
            let pass_on = self.stream.takes_more();
            if !self.read(pass_on) {
                return;
            }
        }
    }

    /// Reads once; false when there is nothing more now.
    fn read(&mut self, pass_on: bool) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut bytes = [0; PIECE];
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => {
                self.pipe = None;
                false
            }
            Ok(length) => {
                let bytes = &bytes[..length];
                if pass_on {
                    // Not through the standard library's handle, whose lock another thread may hold while it blocks.
                    let _ = rustix::io::write(self.stream.own(), bytes);
                }
                self.tail.extend_from_slice(bytes);
                // Not at each piece: whoever writes much would have all of it moved each time.
                if self.tail.len() >= 2 * TAIL {
                    self.tail.drain(..self.tail.len() - TAIL);
                }
                true
            }
            Err(rustix::io::Errno::INTR) => true,
            Err(_) => false,
        }
    }
}
