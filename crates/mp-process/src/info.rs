//! This process, its parent, its children; how many processors.

use crate::child::Child;
use crate::registry;
use mp_core::Identity;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// A process as others see it, without its result.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    name: String,
    identity: Identity,
    daemon: bool,
    child: Option<Arc<Child>>,
}

impl ProcessInfo {
    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it ends with its parent.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }

    /// Whether it lives. Once false, always false.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match &self.child {
            Some(child) => matches!(child.try_status(), Ok(None)),
            None => self.identity.is_alive(),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait(&self) -> io::Result<()> {
        if let Some(child) = &self.child {
            return child.wait(mp_core::Deadline::NEVER).map(drop);
        }
        match self.identity.open() {
            Ok(pidfd) => mp_core::wait(&[&mp_core::Readable(pidfd)], None).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a child was told about itself.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) name: String,
    /// In front of the numbers of its own children: empty, or `1:`.
    pub(crate) path: String,
    pub(crate) daemon: bool,
    pub(crate) parent: Identity,
    pub(crate) parent_name: String,
}

/// A forked child was told about itself after what it was copied from: the last link counts. Read without a lock, which a fork
/// could leave locked for ever.
#[derive(Debug)]
struct Link {
    own: Own,
    /// Of the own children's names.
    children: AtomicU32,
    next: OnceLock<Box<Link>>,
}

static OWN: OnceLock<Box<Link>> = OnceLock::new();
/// Of the first process's.
static CHILDREN: AtomicU32 = AtomicU32::new(0);

fn own() -> Option<&'static Link> {
    let mut last = OWN.get()?;
    while let Some(next) = last.next.get() {
        last = next;
    }
    Some(last)
}

/// Once in the life of a process, by its entry.
pub(crate) fn introduce(own: Own) {
    let place = self::own().map_or(&OWN, |link| &link.next);
    let _ = place.set(Box::new(Link { own, children: AtomicU32::new(0), next: OnceLock::new() }));
}

pub(crate) fn own_name() -> &'static str {
    own().map_or("MainProcess", |link| &link.own.name)
}

/// The default name of the next child, and what stands in front of the numbers of its own children.
pub(crate) fn next_name() -> (String, String) {
    let (children, path) = own().map_or((&CHILDREN, ""), |link| (&link.children, &link.own.path));
    let number = children.fetch_add(1, Ordering::Relaxed) + 1;
    (format!("Process-{path}{number}"), format!("{path}{number}:"))
}

/// This process.
#[must_use]
pub fn current_process() -> ProcessInfo {
    let daemon = own().is_some_and(|link| link.own.daemon);
    ProcessInfo { name: own_name().into(), identity: Identity::current(), daemon, child: None }
}

/// The process that started this one with this crate; `None` in a program that was started otherwise.
#[must_use]
pub fn parent_process() -> Option<ProcessInfo> {
    own().map(|link| ProcessInfo {
        name: link.own.parent_name.clone(),
        identity: link.own.parent,
        daemon: false,
        child: None,
    })
}

/// The children of this process that have not ended.
#[must_use]
pub fn active_children() -> Vec<ProcessInfo> {
    registry::active()
        .into_iter()
        .map(|child| ProcessInfo {
            name: child.name.clone(),
            identity: Identity::of(child.pid).unwrap_or(Identity { pid: child.pid, start: 0 }),
            daemon: child.daemon,
            child: Some(child),
        })
        .collect()
}

/// How many processors this process may use: by its affinity and the quotas of its control groups. At least one.
///
/// Right for the size of a pool. A change of affinity or quota shows at the next call.
#[doc(alias = "os.process_cpu_count")]
#[must_use]
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_has_no_parent_of_ours() {
        assert_eq!(current_process().name(), "MainProcess");
        assert!(parent_process().is_none());
        assert!(cpu_count() >= 1);
    }
}
