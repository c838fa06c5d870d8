//! What a process shall be like, before it is started.

use crate::error::SpawnError;
use crate::launch;
use crate::process::Process;
use crate::settings::{Limit, Resource, Settings};
use crate::start_method::StartMethod;
use crate::streams::Stdio;
use crate::task::{Routine, Task};
use mp_core::wire;
use serde::{Serialize, de::DeserializeOwned};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of a process; made by [`Process::builder`].
///
/// ```no_run
/// use mp_process::Process;
///
/// fn report(from: String) {
///     println!("{from}");
/// }
///
/// let process = Process::builder().name("reporter").daemon(true).spawn(report, ("here".to_owned(),))?;
/// # Ok::<(), mp_process::SpawnError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) name: Option<String>,
    pub(crate) daemon: bool,
    /// By default the program's.
    pub(crate) start_method: Option<StartMethod>,
    pub(crate) clear_env: bool,
    /// A value, or nothing for a variable that is taken out.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    pub(crate) settings: Settings,
    #[cfg(feature = "log")]
    pub(crate) forward_log: bool,
    pub(crate) handshake_timeout: Duration,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            name: None,
            daemon: false,
            start_method: None,
            clear_env: false,
            env: Vec::new(),
            current_dir: None,
            stdin: Stdio::Null,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            settings: Settings::default(),
            #[cfg(feature = "log")]
            forward_log: false,
            handshake_timeout: Duration::from_secs(60),
        }
    }
}

impl Builder {
    /// Its name; by default `Process-1`, `Process-2`, and `Process-1:1` for a child's child. The first 15 bytes show in `ps`.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Whether it ends at once when this process ends, in whatever way; by default it lives on, and is joined when this process
    /// ends normally.
    pub fn daemon(mut self, daemon: bool) -> Builder {
        self.daemon = daemon;
        self
    }

    /// How it comes to be; by default as [`set_start_method`](crate::set_start_method) says.
    pub fn start_method(mut self, method: StartMethod) -> Builder {
        self.start_method = Some(method);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        self.env.push((name.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// Sets variables of its environment.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Builder {
        variables.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Builder {
        self.env.push((name.as_ref().into(), None));
        self
    }

    /// Gives it an empty environment, but for what is set after this.
    pub fn env_clear(mut self) -> Builder {
        self.clear_env = true;
        self.env.clear();
        self
    }

    /// Its working directory.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Builder {
        self.current_dir = Some(dir.as_ref().into());
        self
    }

    /// Its standard input; by default [`Stdio::Null`], so that it does not compete for the terminal.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Builder {
        self.stdin = stdin.into();
        self
    }

    /// Its standard output; by default [`Stdio::Inherit`].
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Builder {
        self.stdout = stdout.into();
        self
    }

    /// Its standard error; by default [`Stdio::Inherit`].
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Builder {
        self.stderr = stderr.into();
        self
    }

    /// Its mask of permissions for files that it creates (`0o077`: for its user only); by default as for this process.
    pub fn umask(mut self, mask: u32) -> Builder {
        self.settings.umask = Some(mask);
        self
    }

    /// Its nice value, from -20 (first) to 19 (last), not an increment; by default as for this process. Lower than the own one
    /// needs a privilege, and is refused without.
    pub fn nice(mut self, nice: i32) -> Builder {
        self.settings.nice = Some(nice);
        self
    }

    /// The processors on which it may run, by number; by default as for the thread that starts it. Its
    /// [`cpu_count`](crate::cpu_count) follows.
    ///
    /// ```no_run
    /// # use mp_process::Process;
    /// let process = Process::builder().cpu_affinity([0, 1]).spawn(mp_process::cpu_count, ())?;
    /// # Ok::<(), mp_process::SpawnError>(())
    /// ```
    pub fn cpu_affinity(mut self, cpus: impl IntoIterator<Item = usize>) -> Builder {
        self.settings.cpu_affinity = Some(cpus.into_iter().collect());
        self
    }

    /// How much of a resource it may use: a number for both the soft and the hard limit, or a [`Limit`]. By default as for this
    /// process. A start with a hard limit above the own one needs a privilege, and is refused without.
    ///
    /// ```no_run
    /// # use mp_process::{Limit, Process, Resource};
    /// # fn parse(path: String) {}
    /// let parser = Process::builder()
    ///     .limit(Resource::AddressSpace, 512 << 20)
    ///     .limit(Resource::CpuTime, Limit::new(10, 11))
    ///     .spawn(parse, ("untrusted.bin".to_owned(),))?;
    /// # Ok::<(), mp_process::SpawnError>(())
    /// ```
    pub fn limit(mut self, resource: Resource, limit: impl Into<Limit>) -> Builder {
        self.settings.limits.retain(|&(named, _)| named != resource);
        self.settings.limits.push((resource, limit.into()));
        self
    }

    /// How many bytes of private memory it may have (RLIMIT_DATA: heap and stacks of threads, not shared memory). An
    /// allocation beyond fails, which ends most programs with SIGABRT.
    pub fn memory_limit(mut self, bytes: u64) -> Builder {
        self.settings.memory_limit = Some(bytes);
        self
    }

    /// Whether a crash may write a core file; by default as for this process. A large core delays the news of the death.
    pub fn core_dump(mut self, core_dump: bool) -> Builder {
        self.settings.core_dump = Some(core_dump);
        self
    }

    /// Has the records that it logs with the `log` crate given to this process's logger, with its name in front: `[Process-1] text`.
    ///
    /// They keep target, place and level; the level that this process logs is the child's. The child never waits for this process:
    /// what is not read in time is kept there, up to a MiB, and what is beyond is counted and told. At a normal end nothing is lost,
    /// [`join`](Process::join) returns after the last record, and what was sent before a death arrives. The function must not set
    /// a logger of its own.
    #[cfg(feature = "log")]
    pub fn forward_log(mut self, forward_log: bool) -> Builder {
        self.forward_log = forward_log;
        self
    }

    /// How long the process may take to reach `init()` and take its arguments; by default a minute.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Builder {
        self.handshake_timeout = timeout;
        self
    }

    /// Starts it: runs `function` with `args` there.
    ///
    /// Returns once the process has its arguments and is about to run, or has failed to get there.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; no process is left then.
    pub fn spawn<F, Args>(&self, function: F, args: Args) -> Result<Process<F::Output>, SpawnError>
    where
        F: Task<Args>,
        Args: Serialize + DeserializeOwned + 'static,
        F::Output: Serialize + DeserializeOwned + 'static,
    {
        let routine = Routine::of::<F, Args>(function).ok_or(SpawnError::NoImage)?;
        let mut scratch = Vec::new();
        let message = wire::encode(&args, &mut scratch).map_err(SpawnError::Encode)?;
        launch::launch(self, routine, message).map(Process::new)
    }
}
