//! Room in a queue of limited length: whoever submits waits for it, and each task that is settled gives its share back.

use crate::wakers;
use mp_core::Deadline;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// How many tasks that are not done a pool may hold, and how many bytes of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    pub(crate) tasks: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Taken {
    tasks: usize,
    bytes: usize,
    /// The pool takes no more: nobody waits.
    open: bool,
    /// Futures that wait for room.
    wakers: Vec<Waker>,
}

impl Taken {
    fn fits(&self, most: Most, tasks: usize, bytes: usize) -> bool {
        let fits = self.tasks + tasks <= most.tasks && self.bytes.saturating_add(bytes) <= most.bytes;
        // What is more than the whole queue gets it alone.
        fits || self.tasks == 0 || self.open
    }
}

/// The room of one pool.
#[derive(Debug)]
pub(crate) struct Rooms {
    most: Most,
    taken: Mutex<Taken>,
    given_back: Condvar,
}

/// The share of one task.
#[derive(Debug)]
pub(crate) struct Room {
    rooms: Arc<Rooms>,
    bytes: usize,
}

impl Rooms {
    pub(crate) fn new(most: Most) -> Arc<Rooms> {
        Arc::new(Rooms { most, taken: Mutex::default(), given_back: Condvar::new() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for tasks of so many bytes each, all or none, waited for until `deadline`.
    pub(crate) fn take(self: &Arc<Self>, tasks: &[usize], deadline: Deadline) -> Option<Vec<Room>> {
        let bytes: usize = tasks.iter().sum();
        let mut taken = self.taken();
        loop {
            if taken.fits(self.most, tasks.len(), bytes) {
                taken.tasks += tasks.len();
                taken.bytes += bytes;
                let room = |bytes: &usize| Room { rooms: Arc::clone(self), bytes: *bytes };
                return Some(tasks.iter().map(room).collect());
            }
            taken = match deadline.left() {
                None => self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    self.given_back.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Room for one task of so many bytes, for a future that waits for it.
    pub(crate) async fn when_free(self: &Arc<Self>, bytes: usize) -> Room {
        poll_fn(|context| {
            let mut taken = self.taken();
            if taken.fits(self.most, 1, bytes) {
                taken.tasks += 1;
                taken.bytes += bytes;
                return Poll::Ready(Room { rooms: Arc::clone(self), bytes });
            }
            if !taken.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                taken.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Nobody waits any more: what is submitted now is refused anyway.
    pub(crate) fn open(&self) {
        let mut taken = self.taken();
        taken.open = true;
        self.tell(taken);
    }

    /// Something was given back.
    fn tell(&self, mut taken: MutexGuard<'_, Taken>) {
        let wakers = std::mem::take(&mut taken.wakers);
        drop(taken);
        self.given_back.notify_all();
        wakers.into_iter().for_each(wakers::wake);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.rooms.taken();
        taken.tasks -= 1;
        taken.bytes -= self.bytes;
        self.rooms.tell(taken);
    }
}
