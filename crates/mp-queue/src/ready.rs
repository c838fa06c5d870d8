//! Readiness: what `wait`, `poll`, epoll and async runtimes see of a queue.

#[cfg(feature = "async")]
use crate::end::End;
use crate::joinable::JoinableQueue;
use crate::queue::Queue;
use crate::split::{Receiver, Sender};
use mp_core::Waitable;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Ready when a get would not wait: a value is inside, or the queue is closed.
impl<T> Waitable for Queue<T> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.get_end().values_fd(false)
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.get_end().has_values(false))
    }
}

/// Ready when a get would not wait: a value is inside, or the queue is closed. What a dead consumer had claimed is found by whoever
/// looks, at most once in 100 ms: who waits for that in the kernel alone looks now and then.
impl<T> Waitable for JoinableQueue<T> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.get_end().values_fd(false)
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.get_end().has_values(false))
    }
}

/// Ready when a get would not wait: a value is inside, the queue is closed, or all senders are gone.
impl<T> Waitable for Receiver<T> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.get_end().values_fd(true)
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.get_end().has_values(true))
    }
}

/// Ready when a put would not wait: there is room, the queue is closed, or all receivers are gone.
impl<T> Waitable for Sender<T> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.put_end().room_fd()
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.put_end().has_room())
    }
}

/// One end of any kind of handle, waited for in a future until a get would not wait.
#[cfg(feature = "async")]
pub(crate) struct Values<'a> {
    pub(crate) end: &'a End,
    pub(crate) watched: bool,
}

#[cfg(feature = "async")]
impl Waitable for Values<'_> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.end.values_fd(self.watched)
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.end.has_values(self.watched))
    }
}

/// The other end, until a put would not wait.
#[cfg(feature = "async")]
pub(crate) struct Room<'a>(pub(crate) &'a End);

#[cfg(feature = "async")]
impl Waitable for Room<'_> {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.room_fd()
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self.0.has_room())
    }
}

macro_rules! descriptor {
    ($name:ident, $what:literal) => {
        impl<T> AsFd for $name<T> {
            #[doc = concat!("Readable whenever ", $what, " would not wait, and now and then for nothing: look with the `try_` form.")]
            ///
            /// # Panics
            ///
            /// When no descriptors are left on the first call: [`Waitable::wait_fd`] is the form with an error.
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.wait_fd().expect("two descriptors for polling a queue")
            }
        }

        impl<T> AsRawFd for $name<T> {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    };
}

descriptor!(Queue, "a get");
descriptor!(JoinableQueue, "a get");
descriptor!(Receiver, "a get");
descriptor!(Sender, "a put");
