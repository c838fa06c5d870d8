//! Processes that are all joined before a function goes on.

use crate::builder::Builder;
use crate::child::Child;
use crate::error::SpawnError;
use crate::process::Process;
use crate::task::Task;
use mp_core::Deadline;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::{Arc, Mutex, PoisonError};

/// Starts processes that [`scope`] waits for.
#[derive(Debug, Default)]
pub struct Scope {
    children: Mutex<Vec<Arc<Child>>>,
}

/// Runs `body`, then waits until every process that it started through the scope has ended; also when `body` panics.
///
/// # Examples
///
/// ```standalone_crate
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     mp_process::init();
///     let processes = mp_process::scope(|scope| {
///         (1..4).map(|n| scope.spawn(square, (n,))).collect::<Result<Vec<_>, _>>()
///     })?;
///     for process in processes {
///         println!("{}", process.join()?); // has ended already
///     }
///     Ok(())
/// }
/// ```
pub fn scope<T>(body: impl FnOnce(&Scope) -> T) -> T {
    struct JoinAll(Scope);
    impl Drop for JoinAll {
        fn drop(&mut self) {
            for child in self.0.children.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                // Fails only when the kernel cannot poll: then there is nothing to wait with.
                let _ = child.wait(Deadline::NEVER);
            }
        }
    }
    let scope = JoinAll(Scope::default());
    body(&scope.0)
}

impl Scope {
    /// As [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// See [`SpawnError`].
    pub fn spawn<F, Args>(&self, function: F, args: Args) -> Result<Process<F::Output>, SpawnError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        self.spawn_with(&Builder::default(), function, args)
    }

    /// As [`Builder::spawn`].
    ///
    /// # Errors
    ///
    /// See [`SpawnError`].
    pub fn spawn_with<F, Args>(
        &self,
        builder: &Builder,
        function: F,
        args: Args,
    ) -> Result<Process<F::Output>, SpawnError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let process = builder.spawn(function, args)?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(process.child()));
        Ok(process)
    }
}
