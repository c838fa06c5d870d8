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

static OWN: OnceLock<Own> = OnceLock::new();
static CHILDREN: AtomicU32 = AtomicU32::new(0);

pub(crate) fn introduce(own: Own) {
    // Once in the life of a child, by its entry.
    let _ = OWN.set(own);
}

pub(crate) fn own_name() -> &'static str {
    OWN.get().map_or("MainProcess", |own| &own.name)
}

/// The default name of the next child, and what stands in front of the numbers of its own children.
pub(crate) fn next_name() -> (String, String) {
    let number = CHILDREN.fetch_add(1, Ordering::Relaxed) + 1;
    let path = OWN.get().map_or("", |own| &own.path);
    (format!("Process-{path}{number}"), format!("{path}{number}:"))
}

/// This process.
#[must_use]
pub fn current_process() -> ProcessInfo {
    let daemon = OWN.get().is_some_and(|own| own.daemon);
    ProcessInfo { name: own_name().into(), identity: Identity::current(), daemon, child: None }
}

/// The process that started this one with this crate; `None` in a program that was started otherwise.
#[must_use]
pub fn parent_process() -> Option<ProcessInfo> {
    OWN.get().map(|own| ProcessInfo {
        name: own.parent_name.clone(),
        identity: own.parent,
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
