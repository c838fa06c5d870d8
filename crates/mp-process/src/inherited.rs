//! What an exec hands on to a child, for a child of the fork server, which has it as of the fork server's start.

use crate::sys::process as sys;
use mp_core::Handle;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The variables of an environment, in its order.
pub(crate) type Environment = Vec<(OsString, OsString)>;

/// What the child puts in place. Umask, priority, processors and limits go with the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inherited {
    /// All variables; `None` where they are as at the fork server's start.
    env: Option<Environment>,
    /// `None` where the directory cannot be opened: then the child stays in the fork server's.
    current_dir: Option<Handle>,
    /// `None` is a null stream.
    stdout: Option<Handle>,
    stderr: Option<Handle>,
}

impl Inherited {
    /// For a child with these streams, whose environment is to be `env` where the fork server's is `server_env`.
    ///
    /// # Errors
    ///
    /// When `current_dir` cannot be opened.
    pub(crate) fn new(
        env: Environment,
        server_env: &Environment,
        current_dir: Option<&Path>,
        stdout: Option<Handle>,
        stderr: Option<Handle>,
    ) -> io::Result<Inherited> {
        // A directory that may be entered need not be readable.
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        let current_dir = match current_dir {
            Some(path) => Some(open(path)?),
            None => open(Path::new(".")).ok(),
        };
        Ok(Inherited {
            env: (env != *server_env).then_some(env),
            current_dir: current_dir.map(Handle::from),
            stdout,
            stderr,
        })
    }

    /// Puts it in place in this process, which has one thread.
    pub(crate) fn apply(self) -> io::Result<()> {
        if let Some(env) = self.env {
            sys::replace_environment(&env);
        }
        if let Some(dir) = self.current_dir {
            rustix::process::fchdir(&dir)?;
        }
        let null = std::fs::File::options().write(true).open("/dev/null")?;
        let stream = |handle: Option<&Handle>, put: fn(BorrowedFd<'_>) -> rustix::io::Result<()>| {
            put(handle.map_or(null.as_fd(), AsFd::as_fd))
        };
        stream(self.stdout.as_ref(), |fd| rustix::stdio::dup2_stdout(fd))?;
        stream(self.stderr.as_ref(), |fd| rustix::stdio::dup2_stderr(fd))?;
        Ok(())
    }
}

/// Writes what is buffered for standard output, so that a forked child does not write it as well.
pub(crate) fn flush_stdout() {
    // A closed stream has nothing that could be written twice.
    let _ = io::stdout().flush();
}
