//! Room in a queue of limited length: whoever submits waits for it, and each task that is settled gives its share back.

use mp_core::Deadline;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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

    /// Room for tasks of so many bytes each, all or none, waited for until `deadline`. What is more than the whole queue gets it alone.
    pub(crate) fn take(self: &Arc<Self>, tasks: &[usize], deadline: Deadline) -> Option<Vec<Room>> {
        let bytes: usize = tasks.iter().sum();
        let mut taken = self.taken();
        loop {
            let fits = taken.tasks + tasks.len() <= self.most.tasks
                && taken.bytes.saturating_add(bytes) <= self.most.bytes;
            if fits || taken.tasks == 0 || taken.open {
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

    /// Nobody waits any more: what is submitted now is refused anyway.
    pub(crate) fn open(&self) {
        self.taken().open = true;
        self.given_back.notify_all();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.rooms.taken();
        taken.tasks -= 1;
        taken.bytes -= self.bytes;
        drop(taken);
        self.rooms.given_back.notify_all();
    }
}
