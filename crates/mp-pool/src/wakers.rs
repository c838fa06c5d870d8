//! Who is woken when a result is there: threads that wait, and users' futures. Both once this thread holds no pool's lock any more. The code of a
//! waker may so call the pool, or drop it, and one that panics harms nobody; a thread that was woken finds the lock free, where it would else take the
//! core from who woke it, find nothing more, and sleep again, once for each result.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar};
use std::task::Waker;

/// What one thread is to wake later.
#[derive(Default)]
struct Later {
    /// How many pools' locks it holds.
    locks: u32,
    wakers: Vec<Waker>,
    sleepers: Vec<Arc<Condvar>>,
}

thread_local! {
    static LATER: RefCell<Later> = RefCell::default();
}

/// Wakes it now, or as soon as this thread holds no pool's lock.
pub(crate) fn wake(waker: Waker) {
    let mut waker = Some(waker);
    // At the very end of a thread there is no list any more, nor a lock that it holds.
    let _ = LATER.try_with(|later| {
        let mut later = later.borrow_mut();
        if later.locks > 0 {
            later.wakers.extend(waker.take());
        }
    });
    waker.into_iter().for_each(wake_now);
}

/// Wakes all who wait for it now, or as soon as this thread holds no pool's lock.
pub(crate) fn notify(sleepers: &Arc<Condvar>) {
    let kept = LATER.try_with(|later| {
        let mut later = later.borrow_mut();
        let kept = later.locks > 0;
        if kept {
            later.sleepers.push(Arc::clone(sleepers));
        }
        kept
    });
    if !kept.unwrap_or(false) {
        sleepers.notify_all();
    }
}

/// Whether somebody is to be woken: a reason to give the lock back.
pub(crate) fn pending() -> bool {
    let pending = |later: &RefCell<Later>| {
        let later = later.borrow();
        !later.wakers.is_empty() || !later.sleepers.is_empty()
    };
    LATER.try_with(pending).unwrap_or(false)
}

/// This thread holds a pool's lock as long as this lives.
pub(crate) fn keep() -> Kept {
    let _ = LATER.try_with(|later| later.borrow_mut().locks += 1);
    Kept(PhantomData)
}

/// Wakes all when it is dropped: last, where locks are nested. Of one thread, as its list is.
pub(crate) struct Kept(PhantomData<*const ()>);

impl Drop for Kept {
    fn drop(&mut self) {
        let due = LATER.try_with(|later| {
            let mut later = later.borrow_mut();
            later.locks = later.locks.saturating_sub(1);
            let Later { locks, wakers, sleepers } = &mut *later;
            (*locks == 0).then(|| (std::mem::take(wakers), std::mem::take(sleepers)))
        });
        let (wakers, sleepers) = due.ok().flatten().unwrap_or_default();
        sleepers.into_iter().for_each(|sleepers| sleepers.notify_all());
        wakers.into_iter().for_each(wake_now);
    }
}

fn wake_now(waker: Waker) {
    // What it says was printed by the panic's hook.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
}
