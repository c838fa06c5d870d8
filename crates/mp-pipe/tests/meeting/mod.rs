//! What the tests of listeners share.

#![allow(dead_code, reason = "each test binary uses a part")]

use mp_pipe::{AcceptError, Address, ConnectError, Connection, Key, Listener};
use mp_test::command;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A directory of its own for one test, removed at the end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(test: &str) -> Place {
        let path = std::env::temp_dir().join(format!("mp-pipe-{test}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Accepts while a thread connects by `client`; what both got.
pub(crate) fn meet(
    listener: &mut Listener,
    client: impl FnOnce() -> Result<Connection, ConnectError> + Send,
) -> (Result<Connection, AcceptError>, Result<Connection, ConnectError>) {
    thread::scope(|scope| {
        let client = scope.spawn(client);
        let accepted = listener.accept().map(|(connection, _)| connection);
        (accepted, client.join().unwrap())
    })
}

/// `test` in `role`, with an address and a step to die at.
pub(crate) fn at(test: &str, role: &str, address: &str, step: &str) -> Command {
    let mut command = command(test, role);
    command.env("ADDRESS", address).env("MP_STEP", step);
    command
}

pub(crate) fn address() -> Address {
    Address::from(std::env::var("ADDRESS").unwrap())
}

pub(crate) fn key() -> Key {
    Key::new("the key of these tests")
}
