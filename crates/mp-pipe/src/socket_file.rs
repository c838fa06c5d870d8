//! The file of a socket: taken over from the dead, never from the living; removed by its maker alone.

use mp_core::{Deadline, Identity};
use sha2::{Digest, Sha256};
use std::fs::{self, Metadata};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long others may be busy with binding to the same path.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket file of ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: somebody may have put another file there since.
    file: (u64, u64),
    maker: Identity,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.maker == Identity::current();
        if ours && fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == self.file) {
            // It was there a moment ago; gone is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds by `listen`, after clearing away what a dead listener left at `path`.
pub(crate) fn bind<L>(path: &Path, listen: impl Fn() -> io::Result<L>) -> io::Result<(L, SocketFile)> {
    // Absolute, so that a changed working directory does not make us remove another file.
    let path = std::path::absolute(path)?;
    let _turn = Turn::wait(&path)?;
    let socket = match listen() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            clear(&path)?;
            listen()?
        }
        other => other?,
    };
    let file = identity(&fs::symlink_metadata(&path)?);
    Ok((socket, SocketFile { path, file, maker: Identity::current() }))
}

/// Removes the file at `path` if it is a socket that nobody listens to.
fn clear(path: &Path) -> io::Result<()> {
    let in_use = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, what.to_owned()));
    let before = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // Its owner removed it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !before.file_type().is_socket() {
        return in_use("a file that is no socket is in the way");
    }
    // Only a dead listener refuses. A living one sees somebody who leaves without a word.
    match probe(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => return in_use("somebody listens there"),
    }
    if fs::symlink_metadata(path).is_ok_and(|now| identity(&now) == identity(&before)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Connects without blocking: a living listener whose queue is full must not keep us.
fn probe(path: &Path) -> io::Result<UnixStream> {
    use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, prelude::*};
    let name = path.to_fs_name::<GenericFilePath>()?;
    let options = ConnectOptions::new().name(name).wait_mode(interprocess::ConnectWaitMode::Deferred);
    let Stream::UdSocket(socket) = options.connect_sync()?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// One process at a time binds to a path, so that nobody clears away what another has just made: a socket that is bound
/// and does not listen yet refuses as a dead one does. The turn is a name in the kernel, gone with its holder.
struct Turn(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl Turn {
    fn wait(path: &Path) -> io::Result<Turn> {
        let name = Turn::name(path)?;
        let deadline = Deadline::after(PATIENCE);
        loop {
            match UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
                Ok(holder) => return Ok(Turn(holder)),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse || deadline.passed() => {
                    return Err(error);
                }
                Err(_) => std::thread::sleep(deadline.slice(Duration::from_millis(1))),
            }
        }
    }

    /// The directory itself and the name in it: the same for every way to write the path.
    fn name(path: &Path) -> io::Result<String> {
        let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a path of a file"));
        };
        let (device, inode) = identity(&fs::metadata(directory)?);
        let digest = Sha256::digest(file.as_encoded_bytes());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(digest);
        let name = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        Ok(format!("mp-pipe-bind-{device:x}-{inode:x}-{name:016x}"))
    }
}
