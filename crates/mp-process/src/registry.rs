//! The children of this process: who is there, who is reaped in the background, who is joined at the end.
//!
//! Invariants:
//! 1. Every child is in `children` until it was reaped; whoever reaps it last lets the weak pointer die.
//! 2. A child whose handle was dropped is in `left`, and a reaper thread lives while `left` is not empty. It sleeps in one poll
//!    over the pidfds and its own bell, so an idle one costs nothing.
//! 3. Nothing is waited for while the registry's lock is held.
//! 4. A forked child of this process has none of its children: the registry belongs to the process that made it.

use crate::child::Child;
use crate::sys::process as sys;
use mp_core::deadline::SLICE;
use mp_core::{Deadline, park};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::{io, process, thread};

#[derive(Debug, Default)]
struct Registry {
    owner: u32,
    children: Vec<Weak<Child>>,
    left: Vec<Arc<Child>>,
    /// Rings for the reaper; present while it runs.
    bell: Option<Arc<OwnedFd>>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { owner: 0, children: Vec::new(), left: Vec::new(), bell: None });

/// The process that has children in the registry; readable without the lock, which a forked child may find locked for ever.
static OWNER: AtomicU32 = AtomicU32::new(0);

fn registry() -> MutexGuard<'static, Registry> {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    if registry.owner != process::id() {
        // The parent's children, copied by a fork: letting go of them here touches nothing of theirs.
        *registry = Registry { owner: process::id(), ..Registry::default() };
    }
    registry
}

/// Keeps the registry whole over a fork of this process.
pub(crate) fn hold() -> Held {
    Held(REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The registry, locked over a fork.
pub(crate) struct Held(MutexGuard<'static, Registry>);

impl Held {
    /// In the forked child: none of the parent's children are its own, and none of them shall miss the parent's end because a
    /// copy of a line to it is here.
    pub(crate) fn let_go(mut self) {
        let registry = std::mem::take(&mut *self.0);
        for child in registry.children.iter().filter_map(Weak::upgrade) {
            child.disown();
        }
        self.0.owner = process::id();
    }
}

/// Notes a child that was started.
pub(crate) fn enter(child: &Arc<Child>) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| sys::at_exit(join_at_exit));
    let mut registry = registry();
    OWNER.store(process::id(), Relaxed);
    registry.children.retain(|child| child.strong_count() > 0);
    registry.children.push(Arc::downgrade(child));
}

/// The children that have not ended.
pub(crate) fn active() -> Vec<Arc<Child>> {
    let all: Vec<Arc<Child>> = registry().children.iter().filter_map(Weak::upgrade).collect();
    let counts = |child: &Arc<Child>| !child.hidden.load(Relaxed) && matches!(child.try_status(), Ok(None));
    all.into_iter().filter(counts).collect()
}

/// The handle of `child` was dropped: from now on it is reaped in the background.
pub(crate) fn leave(child: Arc<Child>) {
    if matches!(child.try_status(), Ok(Some(_))) {
        return;
    }
    // Nobody will read its report any more.
    let _ = rustix::net::shutdown(&child.socket, rustix::net::Shutdown::Both);
    let mut registry = registry();
    registry.left.push(child);
    if let Some(bell) = &registry.bell {
        ring(bell);
        return;
    }
    // Without a descriptor or a thread left, the child is reaped when the next one is left, or at exit.
    let Ok(bell) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new) else { return };
    let for_reaper = Arc::clone(&bell);
    if thread::Builder::new().name("mp-reaper".into()).spawn(move || reap_left(&for_reaper)).is_ok() {
        registry.bell = Some(bell);
    }
}

fn ring(bell: &OwnedFd) {
    // Full means rung.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn reap_left(bell: &OwnedFd) {
    sys::block_signals();
    loop {
        let left: Vec<Arc<Child>> = {
            let mut registry = registry();
            registry.left.retain(|child| !matches!(child.try_status(), Ok(Some(_))));
            if registry.left.is_empty() {
                registry.bell = None;
                return;
            }
            registry.left.clone()
        };
        let fds: Vec<_> =
            std::iter::once(bell.as_fd()).chain(left.iter().map(|child| child.pidfd.as_fd())).collect();
        // Each end of a child makes its pidfd readable, for good: nothing can be missed, so no slices.
        if park::sleep_on_fds(&fds, None).is_err() {
            // They are more than RLIMIT_NOFILE allows by now, or there is no memory for the poll.
            thread::sleep(SLICE);
        }
        let _ = rustix::io::read(bell, &mut [0; 8]);
    }
}

/// At a normal end of this process: waits for all children that are not daemons. Daemons end by their lifelines.
///
/// One that is still there may wait for this process, through an end that nobody drops any more: it learns first that there will be
/// nothing.
extern "C" fn join_at_exit() {
    if OWNER.load(Relaxed) != process::id() {
        return;
    }
    let children: Vec<Arc<Child>> = registry().children.iter().filter_map(Weak::upgrade).collect();
    let waited_for = |child: &&Arc<Child>| {
        !child.daemon && !child.released.load(Relaxed) && matches!(child.try_status(), Ok(None))
    };
    let children: Vec<&Arc<Child>> = children.iter().filter(waited_for).collect();
    if !children.is_empty() {
        // Without a descriptor left for it, the ends stay as they are.
        let _ = mp_core::ends::shut_down();
    }
    for child in children {
        let _: io::Result<_> = child.wait(Deadline::NEVER);
    }
}
