//! The second process of a contestant: this program again, as `--role NAME ARGUMENT`.

use std::process::{Child, Command, Stdio};

use crate::contestant::{Failure, Measured};
use crate::{crowd, limit, peers, watchdog};

/// A role's name and what plays it; the argument is the role's own.
type Role = (&'static str, fn(&str) -> Result<(), Failure>);

const ROLES: &[Role] = &[
    ("nothing", |_| Ok(())),
    ("crowd", crowd::serve),
    ("futex-waker", limit::futex::serve_waiter),
    ("pipe-waker", peers::kernel::serve_waiter),
    ("futex", limit::futex::serve),
    ("mutex", limit::mutex::serve),
    ("raw_sync", peers::raw_sync::serve),
    ("blocked", limit::blocked::serve),
    ("bytes", limit::bytes::serve),
    ("ring", limit::links::serve),
    ("memfd", limit::memory::serve),
    ("worker", limit::worker::serve),
    ("pool-worker", limit::pool::serve),
    ("pool-zygote", limit::pool::serve_zygote),
    ("zygote", limit::zygote::serve),
    ("iceoryx2", peers::iceoryx2::serve),
    ("ipc-channel", peers::ipc_channel::serve),
    ("socket", peers::kernel::serve_socket),
    ("pipe", peers::kernel::serve_pipe),
];

pub(crate) fn play(name: &str, argument: &str) -> Result<(), Failure> {
    let role = ROLES.iter().find(|(one, _)| *one == name).ok_or(format!("no role `{name}`"))?;
    if name != "nothing" {
        watchdog::die_with_parent()?;
    }
    (role.1)(argument)
}

/// The command that plays a role; what it needs is its standard input.
pub(crate) fn command(name: &str, argument: &str, stdin: impl Into<Stdio>) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", name, argument]).stdin(stdin);
    Ok(command)
}

/// Waits for a second process that was told to end.
pub(crate) fn finish(mut child: Child) -> Measured {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the second process: {status}").into()) }
}
