//! How a process comes to be, and the program's choice.

#![expect(unsafe_code, reason = "a fork beside threads is the caller's to answer for")]

use crate::builder::Builder;
use crate::error::SpawnError;
use crate::launch;
use crate::process::Process;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::atomic::{AtomicU8, Ordering};

/// How a process comes to be.
///
/// | | cost of a start | what the child has | safe beside threads |
/// | --- | --- | --- | --- |
/// | `Spawn` | that of running the program again | nothing but what it is given | yes |
/// | `ForkServer` | that of a fork of a small process, however large this one is | what the [warm-up](crate::ForkServer::warm_up) made | yes |
/// | [`fork`](StartMethod::fork) | that of a fork of this process | all of this process's memory and descriptors | **no** |
///
/// Functions, arguments, results, options, errors, and what happens when a process dies, are the same under each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMethod {
    /// A fresh process that runs this very program again, up to `init()`. Safe with threads; nothing is inherited.
    #[default]
    Spawn,
    /// A fork of a process with a single thread that has stopped inside `init()`: several times faster than `Spawn`, and just as
    /// safe. See [`ForkServer`](crate::ForkServer).
    #[doc(alias = "forkserver")]
    ForkServer,
    /// A fork of this process, made by [`StartMethod::fork`].
    Fork(Fork),
}

/// The promise of whoever called [`StartMethod::fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork(());

impl Fork {
    /// # Safety
    ///
    /// See [`StartMethod::fork`].
    const unsafe fn promise() -> Fork {
        Fork(())
    }
}

impl Builder {
    /// Forks this process and runs `function` in the child, a closure with whatever it captures; what it returns travels back as
    /// from [`spawn`](Builder::spawn).
    ///
    /// See [`StartMethod::fork`] for what the child has and shares. It ends without running this process's exit hooks.
    ///
    /// # Safety
    ///
    /// As for [`StartMethod::fork`]; and what `function` captures must be sound to use in a copy of this process.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; no process is left then.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use mp_process::Process;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     mp_process::init();
    ///     let large = vec![1_u64; 1 << 20];
    ///     // SAFETY: this program has one thread.
    ///     let process = unsafe { Process::builder().fork(|| large.iter().sum::<u64>())? };
    ///     assert_eq!(process.join()?, 1 << 20);
    ///     Ok(())
    /// }
    /// ```
    pub unsafe fn fork<F, R>(&self, function: F) -> Result<Process<R>, SpawnError>
    where
        F: FnOnce() -> R,
        R: Serialize + DeserializeOwned + 'static,
    {
        // SAFETY: the caller's promise.
        let promise = unsafe { Fork::promise() };
        launch::fork(self, promise, function).map(Process::new)
    }
}

impl StartMethod {
    /// A fork of this process: the child has a copy of everything.
    ///
    /// What it shares rather than copies are descriptors: an end of a pipe or queue that it does not close keeps the other side from
    /// seeing this process's end. Buffered standard output is written before each start.
    ///
    /// # Safety
    ///
    /// At each start with this method the program must have just one thread, or the function must not need what another thread may hold
    /// at that moment, since that thread does not exist in the child: locks of any library, the environment's and standard output's among
    /// them. Nor may anything rely on a descriptor being in one process alone, or on a destructor that runs once.
    #[must_use]
    pub const unsafe fn fork() -> StartMethod {
        // SAFETY: the caller's promise.
        StartMethod::Fork(unsafe { Fork::promise() })
    }

    /// For the child, which has the parent's default: it is the same program, of which the same was promised. Not a serde
    /// value, or bytes from anywhere could make the promise.
    pub(crate) const fn number(self) -> u8 {
        match self {
            StartMethod::Spawn => 0,
            StartMethod::ForkServer => 1,
            StartMethod::Fork(_) => 2,
        }
    }

    pub(crate) const fn from_number(number: u8) -> StartMethod {
        match number {
            1 => StartMethod::ForkServer,
            2 => StartMethod::Fork(Fork(())),
            _ => StartMethod::Spawn,
        }
    }
}

static DEFAULT: AtomicU8 = AtomicU8::new(0);

/// How processes are started for which the builder says nothing: [`StartMethod::Spawn`], unless
/// [`set_start_method`] has said otherwise here or, before this process was started, in its parent.
#[doc(alias = "get_start_method")]
#[must_use]
pub fn start_method() -> StartMethod {
    StartMethod::from_number(DEFAULT.load(Ordering::Relaxed))
}

/// Sets how processes are started from now on for which the builder says nothing, here and in the children.
///
/// ```
/// use mp_process::{StartMethod, set_start_method};
///
/// set_start_method(StartMethod::ForkServer);
/// ```
pub fn set_start_method(method: StartMethod) {
    DEFAULT.store(method.number(), Ordering::Relaxed);
}
