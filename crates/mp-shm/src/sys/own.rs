//! A static that is another one in each process, also in those that are made by a plain `fork`.
//!
//! A lock that some other thread held when the process was forked stays locked in the child for ever, over data that may be
//! half-changed. So the child leaves it alone and begins with one of its own.

#![expect(unsafe_code, reason = "a pointer that is exchanged in one step")]

use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A `T` of this process, made by `Default` when it is first asked for. What was the parent's is never touched again, nor freed.
pub(crate) struct Own<T>(AtomicPtr<(u32, T)>);

impl<T: Default + Send + Sync + 'static> Own<T> {
    pub(crate) const fn new() -> Own<T> {
        Own(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's.
    pub(crate) fn get(&self) -> &'static T {
        // Acquire pairs with the Release below: whoever sees the pointer sees what it points to.
        let mut now = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a box that was leaked below: it is never freed, and only shared references to it exist.
            if let Some((process, own)) = unsafe { now.as_ref() }
                && *process == process::id()
            {
                return own;
            }
            let fresh = Box::into_raw(Box::new((process::id(), T::default())));
            match self.0.compare_exchange(now, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => now = fresh,
                Err(other) => {
                    // SAFETY: made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(fresh) });
                    now = other;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn it_is_one_for_all_threads_of_a_process() {
        static ONE: Own<Mutex<u32>> = Own::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| *ONE.get().lock().expect("no panic") += 1));
            }
        });
        assert_eq!(*ONE.get().lock().expect("no panic"), 400);
    }
}
