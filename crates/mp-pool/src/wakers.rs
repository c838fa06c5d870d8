//! Wakers of users' futures. Their code runs when this thread holds no pool's lock any more, so one may call the pool, or drop it; one that
//! panics harms nobody.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::task::Waker;

/// What one thread is to wake later.
#[derive(Default)]
struct Later {
    /// How many pools' locks it holds.
    locks: u32,
    wakers: Vec<Waker>,
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

/// Whether somebody is to be woken: a reason to give the lock back.
pub(crate) fn pending() -> bool {
    LATER.try_with(|later| !later.borrow().wakers.is_empty()).unwrap_or(false)
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
        let wakers = LATER.try_with(|later| {
            let mut later = later.borrow_mut();
            later.locks = later.locks.saturating_sub(1);
            if later.locks == 0 { std::mem::take(&mut later.wakers) } else { Vec::new() }
        });
        wakers.into_iter().flatten().for_each(wake_now);
    }
}

fn wake_now(waker: Waker) {
    // What it says was printed by the panic's hook.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
}
