//! What the kernel keeps about a process and a builder may ask for: file mode mask, priority, processors, limits.
//!
//! It travels in the request and is applied by the child itself, before any of the user's code: so every start method gives the
//! same process, and what fails is named in the refusal. The order matters:
//!
//! 1. Signals are unblocked. A fresh process has none blocked, whichever thread started it: otherwise `terminate` would do nothing
//!    to a child of a thread that blocks SIGTERM. Dispositions stay: what is ignored here is ignored there, as under `nohup`.
//! 2. Mask, processors and priority. Before the limits, as a limit on priority would forbid the priority.
//! 3. Limits, last: one on memory or descriptors would hit the steps before it.

use crate::sys::process as sys;
use rustix::fs::Mode;
use rustix::process::{Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};
use std::io;

/// What a process may use at most; see `setrlimit(2)`. The child gets them after it has its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space, shared memory among them. An allocation or mapping beyond fails.
    AddressSpace,
    /// Bytes of private memory: heap and stacks of threads. An allocation beyond fails.
    Data,
    /// Seconds of processor time. At the soft limit comes SIGXCPU, at the hard one SIGKILL.
    CpuTime,
    /// One more than the highest descriptor. Opening beyond fails.
    OpenFiles,
    /// Bytes of a file that it writes. Writing beyond sends SIGXFSZ, which ends it.
    FileSize,
    /// Bytes of a core file. [`core_dump`](crate::Builder::core_dump) is simpler.
    Core,
    /// Bytes of the stack of the first thread.
    Stack,
    /// Processes and threads of its user, counted over all of the machine. Not for root.
    Processes,
    /// Bytes that it may lock into memory.
    LockedMemory,
    /// Bytes in POSIX message queues of its user.
    MessageQueues,
    /// Signals that may be queued for its user.
    PendingSignals,
    /// How far it may raise its priority: 20 less the lowest nice value.
    Nice,
}

impl Resource {
    const ALL: [Resource; 12] = [
        Resource::AddressSpace,
        Resource::Data,
        Resource::CpuTime,
        Resource::OpenFiles,
        Resource::FileSize,
        Resource::Core,
        Resource::Stack,
        Resource::Processes,
        Resource::LockedMemory,
        Resource::MessageQueues,
        Resource::PendingSignals,
        Resource::Nice,
    ];

    const fn native(self) -> rustix::process::Resource {
        use rustix::process::Resource as Native;
        match self {
            Resource::AddressSpace => Native::As,
            Resource::Data => Native::Data,
            Resource::CpuTime => Native::Cpu,
            Resource::OpenFiles => Native::Nofile,
            Resource::FileSize => Native::Fsize,
            Resource::Core => Native::Core,
            Resource::Stack => Native::Stack,
            Resource::Processes => Native::Nproc,
            Resource::LockedMemory => Native::Memlock,
            Resource::MessageQueues => Native::Msgqueue,
            Resource::PendingSignals => Native::Sigpending,
            Resource::Nice => Native::Nice,
        }
    }
}

/// A soft limit, which the process may raise up to the hard one, and a hard limit, which only root raises.
///
/// A number is both: `builder.limit(Resource::OpenFiles, 256)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    soft: Bound,
    hard: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Bound {
    /// As it is.
    Unchanged,
    At(u64),
    Unlimited,
}

impl Limit {
    /// Neither a soft nor a hard one.
    pub const UNLIMITED: Limit = Limit { soft: Bound::Unlimited, hard: Bound::Unlimited };

    /// A soft limit; the hard one stays as it is for this process.
    #[must_use]
    pub const fn soft(soft: u64) -> Limit {
        Limit { soft: Bound::At(soft), hard: Bound::Unchanged }
    }

    /// A soft and a hard limit.
    #[must_use]
    pub const fn new(soft: u64, hard: u64) -> Limit {
        Limit { soft: Bound::At(soft), hard: Bound::At(hard) }
    }

    fn of(Rlimit { current, maximum }: Rlimit) -> Limit {
        let bound = |number: Option<u64>| number.map_or(Bound::Unlimited, Bound::At);
        Limit { soft: bound(current), hard: bound(maximum) }
    }
}

impl From<u64> for Limit {
    fn from(both: u64) -> Limit {
        Limit::new(both, both)
    }
}

impl Bound {
    const fn or(self, unchanged: Option<u64>) -> Option<u64> {
        match self {
            Bound::Unchanged => unchanged,
            Bound::At(number) => Some(number),
            Bound::Unlimited => None,
        }
    }
}

/// What a builder asks for. What it does not ask for is as in the parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpu_affinity: Option<Vec<usize>>,
    /// In the order in which they were asked for.
    pub(crate) limits: Vec<(Resource, Limit)>,
    /// RLIMIT_DATA, at most: where the limit is lower already, that one holds.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) core_dump: Option<bool>,
}

impl Settings {
    /// Makes the calling process so. The error names the option that failed.
    pub(crate) fn apply(&self) -> io::Result<()> {
        sys::unblock_signals().map_err(|error| named("unblocking its signals", error))?;
        if let Some(mask) = self.umask {
            // What is no permission is none of a mask's business; `umask` itself drops it as well.
            rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
        }
        if let Some(cpus) = &self.cpu_affinity {
            set_affinity(cpus).map_err(|error| named(&format!("`cpu_affinity({cpus:?})`"), error))?;
        }
        if let Some(nice) = self.nice {
            rustix::process::setpriority_process(None, nice)
                .map_err(|error| named(&format!("`nice({nice})`"), error.into()))?;
        }
        for &(resource, limit) in &self.limits {
            set_limit(resource, limit)
                .map_err(|error| named(&format!("`limit({resource:?}, {})`", shown(limit)), error))?;
        }
        if let Some(bytes) = self.memory_limit {
            let maximum = getrlimit(rustix::process::Resource::Data).maximum;
            let bytes = maximum.map_or(bytes, |most| bytes.min(most));
            set_limit(Resource::Data, bytes.into())
                .map_err(|error| named(&format!("`memory_limit({bytes})`"), error))?;
        }
        if let Some(core_dump) = self.core_dump {
            let maximum = getrlimit(rustix::process::Resource::Core).maximum;
            // One byte, not none: too little for any file, and the one limit that programs fed by a pipe respect as well.
            let least = Some(maximum.map_or(1, |most| most.min(1)));
            let current = if core_dump { maximum } else { least };
            setrlimit(rustix::process::Resource::Core, Rlimit { current, maximum })
                .map_err(|error| named(&format!("`core_dump({core_dump})`"), error.into()))?;
        }
        Ok(())
    }

    /// The same, with what it does not ask for as it is in the calling thread now, whose process has `umask`: for a child that does
    /// not inherit from it.
    pub(crate) fn completed(&self, umask: Option<u32>) -> Settings {
        let asked = |resource| self.limits.iter().any(|&(named, _)| named == resource);
        let own = Resource::ALL.into_iter().filter(|&resource| !asked(resource));
        let mut limits: Vec<_> =
            own.map(|resource| (resource, Limit::of(getrlimit(resource.native())))).collect();
        limits.extend(&self.limits);
        Settings {
            umask: self.umask.or(umask),
            nice: self.nice.or_else(|| rustix::process::getpriority_process(None).ok()),
            cpu_affinity: self.cpu_affinity.clone().or_else(own_affinity),
            limits,
            ..*self
        }
    }

    /// The same without what is so `there` already; what was `asked` for stays.
    pub(crate) fn without(mut self, there: &Settings, asked: &Settings) -> Settings {
        if asked.umask.is_none() && self.umask == there.umask {
            self.umask = None;
        }
        if asked.nice.is_none() && self.nice == there.nice {
            self.nice = None;
        }
        if asked.cpu_affinity.is_none() && self.cpu_affinity == there.cpu_affinity {
            self.cpu_affinity = None;
        }
        self.limits.retain(|limit| asked.limits.contains(limit) || !there.limits.contains(limit));
        self
    }
}

fn named(option: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{option}: {error}"))
}

fn shown(limit: Limit) -> String {
    let bound = |bound: Bound| match bound {
        Bound::Unchanged => "unchanged".to_owned(),
        Bound::At(number) => number.to_string(),
        Bound::Unlimited => "unlimited".to_owned(),
    };
    format!("{}..={}", bound(limit.soft), bound(limit.hard))
}

fn set_limit(resource: Resource, limit: Limit) -> io::Result<()> {
    let own = getrlimit(resource.native());
    let wanted = Rlimit { current: limit.soft.or(own.current), maximum: limit.hard.or(own.maximum) };
    Ok(setrlimit(resource.native(), wanted)?)
}

fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            let text =
                format!("there is no processor {cpu}; the last one is {} at most", CpuSet::MAX_CPU - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn own_affinity() -> Option<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    let count = set.count() as usize;
    Some((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_comes_before_what_is() {
        let asked = Settings {
            umask: Some(0o77),
            limits: vec![(Resource::Core, Limit::soft(0))],
            core_dump: Some(false),
            ..Settings::default()
        };
        let whole = asked.completed(Some(0o22));
        assert_eq!((whole.umask, whole.core_dump), (Some(0o77), Some(false)));
        assert_eq!(whole.limits.len(), Resource::ALL.len());
        assert_eq!(whole.limits.last(), Some(&(Resource::Core, Limit::soft(0))));
        let own = Settings::default().completed(crate::sys::process::umask());
        assert!(own.umask.is_some_and(|mask| mask <= 0o777));
        let rest = asked.completed(Some(0o22)).without(&own, &asked);
        assert_eq!((rest.umask, rest.nice, rest.cpu_affinity), (Some(0o77), None, None));
        assert_eq!(rest.limits, asked.limits);
        assert!(own.nice.is_some() && own.cpu_affinity.is_some_and(|cpus| !cpus.is_empty()));
    }

    #[test]
    fn an_error_names_the_option() {
        let refused = |settings: Settings| settings.apply().unwrap_err().to_string();
        let limit = Limit::new(2, 1);
        let text = refused(Settings { limits: vec![(Resource::Nice, limit)], ..Settings::default() });
        assert!(text.starts_with("`limit(Nice, 2..=1)`: "), "{text}");
        let text = refused(Settings { cpu_affinity: Some(vec![1 << 20]), ..Settings::default() });
        assert!(text.starts_with("`cpu_affinity([1048576])`: there is no processor 1048576"), "{text}");
    }
}
