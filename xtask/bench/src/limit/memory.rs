//! The limits of shared memory: a memfd, mapped, and nothing around it.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use memmap2::{MmapOptions, MmapRaw};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::contestant::{Failure, Measured};
use crate::meter::Meter;
use crate::role;
use crate::rows::frozen::{WORDS, filled, sum};

/// An atomic in shared memory.
#[expect(unsafe_code, reason = "a bare atomic in a bare mapping is the limit")]
pub(crate) fn fetch_add(meter: &mut Meter) -> Measured {
    let map = map(&memfd(8)?)?;
    // SAFETY: the mapping is aligned to a page, holds one, lives until the end, and is accessed by nothing else.
    let atomic = unsafe { AtomicU64::from_ptr(map.as_mut_ptr().cast()) };
    meter.measure(|n| {
        for _ in 0..n {
            black_box(atomic.fetch_add(1, SeqCst));
        }
        Ok(())
    })
}

/// A descriptor that has come is asked for its size, mapped, looked at, and let go.
#[expect(unsafe_code, reason = "a bare load from a bare mapping is the limit")]
pub(crate) fn attach(meter: &mut Meter) -> Measured {
    let file = memfd(4096)?;
    meter.measure(|n| {
        for _ in 0..n {
            let map = map(&file.try_clone()?)?;
            // SAFETY: the first bytes of the mapping, which lives, and which nobody writes.
            black_box(unsafe { AtomicU64::from_ptr(map.as_mut_ptr().cast()) }.load(SeqCst));
        }
        Ok(())
    })
}

/// Words are written to a new memfd; the other process gets the descriptor, reads them all, and answers with the sum.
pub(crate) fn transfer(meter: &mut Meter) -> Measured {
    let (mut here, there) = UnixStream::pair()?;
    let child = role::command("memfd", "", OwnedFd::from(there))?.spawn()?;
    meter.measure(|n| {
        for _ in 0..n {
            let file = memfd(WORDS * 8)?;
            let mut map = map_for_writing(&file)?;
            filled(words_mut(&mut map));
            drop(map);
            give(&here, &file)?;
            let mut answer = [0; 8];
            here.read_exact(&mut answer)?;
            black_box(answer);
        }
        Ok(())
    })?;
    drop(here);
    role::finish(child)
}

/// The other process: its standard input is the socket.
pub(crate) fn serve(_: &str) -> Result<(), Failure> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    while let Some(file) = take(&socket)? {
        socket.write_all(&sum(words(&map_for_reading(&file)?)).to_ne_bytes())?;
    }
    Ok(())
}

fn memfd(len: usize) -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("bench-memory", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(len as u64)?;
    Ok(file)
}

fn map(file: &File) -> io::Result<MmapRaw> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    MmapOptions::new().len(len).map_raw(file)
}

#[expect(unsafe_code, reason = "a bare mapping is the limit")]
fn map_for_writing(file: &File) -> io::Result<memmap2::MmapMut> {
    // SAFETY: nobody else has this file yet.
    unsafe { MmapOptions::new().map_mut(file) }
}

#[expect(unsafe_code, reason = "a bare mapping is the limit")]
fn map_for_reading(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the other side writes no more.
    unsafe { MmapOptions::new().map(file) }
}

#[expect(unsafe_code, reason = "bytes of a page-aligned mapping as words")]
fn words_mut(bytes: &mut [u8]) -> &mut [u64] {
    // SAFETY: aligned to a page, whole words, and any pattern is one.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 8) }
}

#[expect(unsafe_code, reason = "bytes of a page-aligned mapping as words")]
fn words(bytes: &[u8]) -> &[u64] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 8) }
}

pub(super) fn give(socket: &UnixStream, file: &File) -> io::Result<()> {
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "there is room for one");
    sendmsg(socket, &[IoSlice::new(&[1])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None` once the other side has ended.
pub(super) fn take(socket: &UnixStream) -> io::Result<Option<File>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(fds.next().and_then(|mut fds| fds.next()).map(File::from))
}
