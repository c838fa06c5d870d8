//! What a fork server cannot give its children when the program has changed it since: credentials, capabilities, filters of
//! system calls, namespaces, root directory, control group, session.
//!
//! They are compared, not carried: a program that has given up a right gets a new fork server, which never had it.

use crate::sys::process as sys;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;

/// The lines of `/proc/thread-self/status` that count. `NSpid` would as well, but holds the thread's own number.
const LINES: [&str; 12] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "NSpgid:",
    "NSsid:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp",
];

const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid_for_children", "user", "uts"];

/// How this thread stands in the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    status: String,
    namespaces: Vec<Vec<u8>>,
    root: (u64, u64),
    control_group: Vec<u8>,
}

/// Descriptors that make looking cheap.
#[derive(Debug)]
pub(crate) struct Observer {
    own: OwnedFd,
    namespaces: OwnedFd,
}

impl Observer {
    pub(crate) fn new() -> io::Result<Observer> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Observer {
            own: sys::above_streams(sys::own_pidfd()?)?,
            namespaces: sys::above_streams(rustix::fs::open("/proc/self/ns", flags, Mode::empty())?)?,
        })
    }

    /// How the calling thread stands now, and the file mode mask; namespaces are those of the first thread.
    pub(crate) fn look(&self) -> io::Result<(Standing, Option<u32>)> {
        let status = sys::own_status()?;
        let counts = |line: &&str| LINES.iter().any(|start| line.starts_with(start));
        let root = rustix::fs::stat("/")?;
        let namespace = |name: &&str| {
            rustix::fs::readlinkat(&self.namespaces, *name, Vec::with_capacity(64))
                .map_or_else(|_| Vec::new(), |link| link.into_bytes())
        };
        let umask = sys::umask_in(&status);
        let standing = Standing {
            status: status.lines().filter(counts).collect(),
            namespaces: NAMESPACES.iter().map(namespace).collect(),
            root: (root.st_dev, root.st_ino),
            control_group: sys::control_group(&self.own),
        };
        Ok((standing, umask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_changed_is_equal() {
        let observer = Observer::new().unwrap();
        let (first, umask) = observer.look().unwrap();
        assert_eq!((first.clone(), umask), observer.look().unwrap());
        assert!(umask.is_some());
        for line in LINES {
            assert!(first.status.contains(line), "{line}: {}", first.status);
        }
        assert!(first.namespaces.iter().all(|link| !link.is_empty()));
    }
}
