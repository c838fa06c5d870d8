//! Test support for the mp crates: children, watchdogs, leak checks.
//!
//! A test that needs a second process starts its own test binary again, for that one test, in a *role*:
//!
//! ```no_run
//! #[test]
//! fn the_lock_of_a_killed_holder_is_free() {
//!     if let Some(role) = mp_test::role() {
//!         assert_eq!(role, "holder");
//!         // … take the lock …
//!         mp_test::say("holding");
//!         mp_test::hear(); // stays here until it is killed
//!         return;
//!     }
//!     mp_test::guarded(|| {
//!         let mut holder = mp_test::Role::start(mp_test::command("the_lock_of_a_killed_holder_is_free", "holder"));
//!         holder.expect("holding");
//!         holder.kill();
//!         // … take the lock, expect the news …
//!     });
//! }
//! ```
//!
//! [`guarded`] runs a test under a watchdog and compares descriptors, threads, children and names in `/dev/shm` before
//! and after.

mod census;
mod hail;
mod role;
mod scarce;
mod watchdog;

pub use census::{Census, threads};
pub use hail::{Hail, interruptible, interruptions};
pub use role::{Role, command, hear, role, say};
pub use scarce::{short_of_descriptors, short_of_memory};
pub use watchdog::Watchdog;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Runs `test` alone in this process, under a watchdog, and fails when it leaves anything behind: a descriptor, a
/// thread, a child (living or not yet waited for), a name in `/dev/shm`.
///
/// # Panics
///
/// When something is left.
pub fn guarded(test: impl FnOnce()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let watchdog = Watchdog::start();
    let before = Census::take();
    test();
    end_all();
    before.assert_nothing_left();
    drop(watchdog);
}

static FINALLY: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

fn end_all() {
    for end in FINALLY.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        end();
    }
}

/// Has `end` run after each guarded test, before anything counts as left: it ends what tests leave running on purpose.
pub fn finally(end: fn()) {
    FINALLY.lock().unwrap_or_else(PoisonError::into_inner).push(end);
}

/// As [`guarded`], for tests whose children leave children of their own: those orphans become this process's, and it
/// waits for all of them to end (the watchdog tells when one does not).
///
/// # Panics
///
/// When something is left.
pub fn guarded_with_orphans(test: impl FnOnce()) {
    guarded(|| {
        struct Subreaper;
        impl Drop for Subreaper {
            /// Also after a test that failed: the next one shall not find its orphans.
            fn drop(&mut self) {
                rustix::process::set_child_subreaper(None).expect("no subreaper");
            }
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("subreaper");
        let _subreaper = Subreaper;
        test();
        end_all();
        reap_orphans();
    });
}

/// Waits until no child of this process is left.
fn reap_orphans() {
    use rustix::process::{WaitOptions, wait};
    until("all orphans have ended", || match wait(WaitOptions::NOHANG) {
        Err(rustix::io::Errno::CHILD) => true,
        Ok(_) | Err(_) => false,
    });
}

/// Waits for `condition`, looking again each millisecond; the watchdog ends a test in which it never comes.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let mut looks = 0_u32;
    while !condition() {
        looks += 1;
        if looks == 5_000 {
            eprintln!("mp-test: still waiting until {what}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether step tests can run; prints by name that `test` cannot when they do not.
#[must_use]
pub fn steps_or_say(enabled: bool, test: &str) -> bool {
    if !enabled {
        eprintln!("mp-test: {test} cannot run in this build: it needs RUSTFLAGS=\"--cfg mp_steps\"");
    }
    enabled
}
