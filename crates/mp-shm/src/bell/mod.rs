//! Waiting until shared memory changes, at no cost for who changes it while nobody waits.
//!
//! A bell is one futex word beside the memory. Even: nobody waits. Odd: somebody may.
//!
//! | who | step | bell | what |
//! | --- | --- | --- | --- |
//! | waiter | arm | `n → n`, or `n + 1` if even | says that somebody waits |
//! | waiter | look | – | reads the memory; is it as wanted, that is the end |
//! | waiter | sleep | still `n` (odd) | the kernel compares and sleeps in one step, at most a slice |
//! | changer | change | – | writes the memory |
//! | changer | see | even: done; odd: go on | one load |
//! | changer | ring | odd `n → n + 1`, by exchange | now nobody waits |
//! | changer | wake | – | wakes all who sleep on it |
//!
//! Invariants: (1) A waiter sleeps only on an odd value that was in the bell before he looked. (2) Whoever changes the memory after
//! that look sees the bell odd, or changed since; in the latter case somebody else rang it and wakes. (3) Nobody counts waiters:
//! the oddness of a dead one is cleared by the next change, for one needless call of the kernel.
//!
//! Orderings: "change, then see" against "arm, then look" is the pattern in which each side writes one word and reads the
//! other's; only the single order of sequentially consistent accesses keeps both from missing. All four are such. After a bulk copy, which
//! is no atomic access, a fence stands for the first.
//!
//! Deaths: a waiter's, anywhere: see invariant 3. A changer's between its change and its ring, or between ring and wake: the
//! change is there, the wake is not; every sleep is a slice of [`SLICE`], after which the waiter looks. A changer who wakes only one who
//! dies before he acts: all are woken.

mod raw;

use mp_core::deadline::SLICE;
use mp_core::{Deadline, park, step};
use std::cell::RefCell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

/// Says that the memory beside the bell has changed, by a sequentially consistent access of this thread.
#[inline]
pub(crate) fn changed(bell: &AtomicU32) {
    step!("shm.change", 1);
    if raw::is_armed(bell) {
        ring(bell);
    }
}

#[cold]
#[inline(never)]
fn ring(bell: &AtomicU32) {
    step!("shm.change", 2);
    if raw::disarm(bell) {
        step!("shm.change", 3);
        park::wake(bell, u32::MAX);
    }
}

/// Says that it has changed by other accesses than those.
pub(crate) fn changed_in_bulk(bells: &[&AtomicU32]) {
    std::sync::atomic::fence(SeqCst);
    bells.iter().for_each(|bell| changed(bell));
}

thread_local! {
    /// Whether spinning has lately paid for this thread.
    static SPIN: RefCell<park::Spin> = RefCell::new(park::Spin::default());
}

/// Waits until `look` answers something; `None` when the time is over. Looks once at least.
///
/// Without a bell, as in memory that other programs change without one, it looks now and then.
pub(crate) fn wait<R>(
    bell: Option<&AtomicU32>,
    deadline: Deadline,
    mut look: impl FnMut() -> Option<R>,
) -> Option<R> {
    let mut found = look();
    if found.is_some() || deadline.passed() {
        return found;
    }
    // The caller's `look` may itself wait for something: then this thread's spinning is not at hand.
    let spin = SPIN.take();
    let mut adapted = spin;
    adapted.until(u32::MAX, || {
        found = look();
        found.is_some()
    });
    SPIN.set(adapted);
    match bell {
        _ if found.is_some() => found,
        Some(bell) => wait_for_bell(bell, deadline, look),
        None => look_now_and_then(deadline, look),
    }
}

fn wait_for_bell<R>(bell: &AtomicU32, deadline: Deadline, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    loop {
        let armed = raw::arm(bell);
        step!("shm.wait", 1);
        let found = look();
        if found.is_some() || deadline.passed() {
            return found;
        }
        step!("shm.wait", 2);
        park::sleep(bell, armed, deadline.slice(SLICE));
        step!("shm.wait", 3);
    }
}

fn look_now_and_then<R>(deadline: Deadline, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    let quiet = AtomicU32::new(0);
    let mut slice = SLICE / 128;
    loop {
        let found = look();
        if found.is_some() || deadline.passed() {
            return found;
        }
        park::sleep(&quiet, 0, deadline.slice(slice));
        slice = SLICE.min(slice * 2);
    }
}
