//! What an exec hands on to a child, for a child of the fork server, which has it as of the fork server's start.
//!
//! Only what is different there is sent: in most programs nothing.

use crate::builder::Builder;
use crate::exec;
use crate::settings::Settings;
use crate::streams;
use crate::sys::process as sys;
use mp_core::Handle;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The variables of an environment, in its order.
pub(crate) type Environment = Vec<(OsString, OsString)>;

/// What a process that is copied has.
#[derive(Debug)]
pub(crate) struct Place {
    env: Environment,
    /// Its directory, settings and pid; `None` when it is this very process.
    server: Option<(Directory, Settings, u32)>,
}

/// Device and inode; `None` where the directory cannot be looked at.
type Directory = Option<(u64, u64)>;

fn directory() -> Directory {
    rustix::fs::stat(".").ok().map(|stat| (stat.st_dev, stat.st_ino))
}

impl Place {
    /// This process.
    pub(crate) fn own() -> Place {
        Place { env: exec::environment(&Builder::default()), server: None }
    }

    /// What a process has that this one starts now; its pid comes later.
    pub(crate) fn of_new(env: Environment) -> Place {
        Place { env, server: Some((directory(), Settings::default().completed(sys::umask()), 0)) }
    }

    pub(crate) fn set_pid(&mut self, pid: u32) {
        if let Some(server) = &mut self.server {
            server.2 = pid;
        }
    }

    /// What a child there is to be told: what `asked` asks for, and what is different here.
    pub(crate) fn settings(&self, asked: &Settings, umask: Option<u32>) -> Settings {
        match &self.server {
            Some((_, there, _)) => asked.completed(umask).without(there, asked),
            None => asked.clone(),
        }
    }

    /// Whether `fd` is the same open file there.
    fn has(&self, fd: BorrowedFd<'_>) -> bool {
        match &self.server {
            Some((_, _, pid)) => sys::is_same_file(*pid, fd),
            None => true,
        }
    }
}

/// What the child puts in place. Umask, priority, processors and limits go with the settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inherited {
    /// All variables; `None` where they are as they shall be.
    env: Option<Environment>,
    /// `None` where it is as it shall be.
    current_dir: Option<Handle>,
    stdout: Stream,
    stderr: Stream,
    /// Standard input needs no null stream.
    pub(crate) stdin_is_null: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Stream {
    AsItIs,
    Null,
    Other(Handle),
}

impl Stream {
    /// `wanted`, or this process's `inherited`, which is a null stream there when it is closed here.
    fn new(wanted: Option<&OwnedFd>, inherited: BorrowedFd<'_>, place: &Place) -> io::Result<Stream> {
        if wanted.is_none() && place.has(inherited) {
            return Ok(Stream::AsItIs);
        }
        let fd = streams::unless_closed(wanted.map_or(inherited, AsFd::as_fd))?;
        Ok(fd.map_or(Stream::Null, |fd| Stream::Other(fd.into())))
    }

    fn apply(&self, put: fn(BorrowedFd<'_>) -> rustix::io::Result<()>) -> io::Result<()> {
        match self {
            Stream::AsItIs => {}
            Stream::Null => put(std::fs::File::options().write(true).open("/dev/null")?.as_fd())?,
            Stream::Other(handle) => put(handle.as_fd())?,
        }
        Ok(())
    }
}

impl Inherited {
    /// For a child that is copied from `place`, with these streams where they are not this process's.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened, or there is no descriptor left.
    pub(crate) fn new(
        builder: &Builder,
        place: &Place,
        stdout: Option<&OwnedFd>,
        stderr: Option<&OwnedFd>,
    ) -> io::Result<Inherited> {
        // A directory that may be entered need not be readable.
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        let is_there = || place.server.as_ref().is_none_or(|(there, _, _)| *there == directory());
        let current_dir = match &builder.current_dir {
            Some(path) => Some(open(path)?),
            None if is_there() => None,
            None => Some(open(Path::new("."))?),
        };
        let env = exec::environment(builder);
        Ok(Inherited {
            env: (env != place.env).then_some(env),
            current_dir: current_dir.map(Handle::from),
            stdout: Stream::new(stdout, io::stdout().as_fd(), place)?,
            stderr: Stream::new(stderr, io::stderr().as_fd(), place)?,
            stdin_is_null: place.server.is_some(),
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
        self.stdout.apply(|fd| rustix::stdio::dup2_stdout(fd))?;
        self.stderr.apply(|fd| rustix::stdio::dup2_stderr(fd))
    }
}

/// Writes what is buffered for standard output, so that a forked child does not write it as well.
pub(crate) fn flush_stdout() {
    // A closed stream has nothing that could be written twice.
    let _ = io::stdout().flush();
}
