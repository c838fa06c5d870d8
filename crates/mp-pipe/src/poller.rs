//! A descriptor that is readable whenever a receive would not block, for `poll`, epoll and async runtimes.
//!
//! A ring in memory has no descriptor of its own, and the socket beside it tells only of bells. Two things make readiness
//! complete: an eventfd that the receiver itself keeps readable while messages are left in the ring, and the bell of a
//! sender, for which the receiver leaves its sleep word set whenever it finds the ring empty. An epoll
//! descriptor over both is what others poll. It exists from the first time somebody asks.

use crate::half::Reader;
use crate::link::Link;
use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub(crate) struct Poller {
    both: OwnedFd,
    more: Arc<OwnedFd>,
}

impl Poller {
    fn new(link: &Link) -> io::Result<Poller> {
        let more = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let both = create(CreateFlags::CLOEXEC)?;
        add(&both, &more, EventData::new_u64(0), EventFlags::IN)?;
        match link.socket() {
            Ok(socket) => add(&both, &socket, EventData::new_u64(1), EventFlags::IN)?,
            // An end that was sent away is always ready: to say so.
            Err(_) => drop(rustix::io::write(&more, &1_u64.to_ne_bytes())?),
        }
        link.tell_when_moved(Arc::clone(&more));
        Ok(Poller { both, more })
    }

    /// The descriptor of the poller in `cell`, made on first use.
    pub(crate) fn fd<'a>(
        cell: &'a OnceLock<Poller>,
        link: &Link,
        reader: &mut Reader,
    ) -> io::Result<BorrowedFd<'a>> {
        if cell.get().is_none() {
            let poller = Poller::new(link)?;
            poller.refresh(link, reader)?;
            // Another thread may have been faster; its poller is as good.
            let _ = cell.set(poller);
        }
        cell.get().map(|poller| poller.both.as_fd()).ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// After anything was received, or the socket was drained: readable while messages are left, else armed for the next.
    pub(crate) fn refresh(&self, link: &Link, reader: &mut Reader) -> io::Result<()> {
        // An end that is not this process's has something to say at once; its bells are another's and stay.
        if reader.is_ours(link) && !reader.has_message() {
            match rustix::io::read(&self.more, &mut [0; 8]) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            if reader.arm(link)? {
                return Ok(());
            }
        }
        match rustix::io::write(&self.more, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
