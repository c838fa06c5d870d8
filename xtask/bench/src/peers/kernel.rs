//! What the kernel offers: a pair of Unix stream sockets, and two pipes. One message, one write; reads take what is there.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::lane::{self, Lane};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role, waiting};

struct Bytes<R, W> {
    from: BufReader<R>,
    to: W,
}

impl<R: Read, W> Bytes<R, W> {
    fn new(from: R, to: W) -> Self {
        Self { from: BufReader::with_capacity(64 * 1024, from), to }
    }
}

impl<const N: usize, R: Read, W: Write> Link<N> for Bytes<R, W> {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.to.write_all(message)?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        Ok(self.from.read_exact(message)?)
    }
}

pub(crate) fn socket_round_trip(meter: &mut Meter) -> Measured {
    with_socket("8", |socket| link::round_trip::<8>(meter, socket))
}

pub(crate) fn socket_stream(meter: &mut Meter) -> Measured {
    with_socket("64", |socket| link::stream::<64>(meter, socket))
}

pub(crate) fn pipe_round_trip(meter: &mut Meter) -> Measured {
    with_pipes("8", |pipes| link::round_trip::<8>(meter, pipes))
}

pub(crate) fn pipe_stream(meter: &mut Meter) -> Measured {
    with_pipes("64", |pipes| link::stream::<64>(meter, pipes))
}

impl<R: Read, W: Write> Lane for Bytes<R, W> {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.to.write_all(message)?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(self.from.read_exact(buffer)?)
    }
}

pub(crate) fn socket_stream_8(meter: &mut Meter) -> Measured {
    with_socket("8", |socket| link::stream::<8>(meter, socket))
}

pub(crate) fn pipe_stream_8(meter: &mut Meter) -> Measured {
    with_pipes("8", |pipes| link::stream::<8>(meter, pipes))
}

pub(crate) fn socket_lane<const SIZE: usize>(meter: &mut Meter) -> Measured {
    with_socket(&format!("lane {SIZE}"), |socket| lane::stream::<SIZE>(meter, socket))
}

pub(crate) fn pipe_lane<const SIZE: usize>(meter: &mut Meter) -> Measured {
    with_pipes(&format!("lane {SIZE}"), |pipes| lane::stream::<SIZE>(meter, pipes))
}

fn with_socket(size: &str, measure: impl FnOnce(&mut Bytes<UnixStream, UnixStream>) -> Measured) -> Measured {
    let (here, there) = UnixStream::pair()?;
    let child = role::command("socket", size, OwnedFd::from(there))?.spawn()?;
    measure(&mut Bytes::new(here.try_clone()?, here))?;
    role::finish(child)
}

fn with_pipes(
    size: &str,
    measure: impl FnOnce(&mut Bytes<std::process::ChildStdout, std::process::ChildStdin>) -> Measured,
) -> Measured {
    let mut child = role::command("pipe", size, Stdio::piped())?.stdout(Stdio::piped()).spawn()?;
    let (from, to) = child.stdout.take().zip(child.stdin.take()).ok_or("both were asked for")?;
    measure(&mut Bytes::new(from, to))?;
    role::finish(child)
}

/// The second process: its standard input is the socket.
pub(crate) fn serve_socket(size: &str) -> Result<(), Failure> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    serve(size, &mut Bytes::new(socket.try_clone()?, socket))
}

/// The second process, between its standard input and output.
pub(crate) fn serve_pipe(size: &str) -> Result<(), Failure> {
    let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let to = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    serve(size, &mut Bytes::new(from, to))
}

/// A byte from a pipe, awaited.
pub(crate) fn pipe_waiting(meter: &mut Meter) -> Measured {
    let (arena, fd) = Arena::create()?;
    let mut child = role::command("pipe-waker", "", fd)?.stdout(Stdio::piped()).spawn()?;
    let mut from = child.stdout.take().ok_or("it was asked for")?;
    waiting::measure(meter, &arena, || Ok(from.read_exact(&mut [0])?))?;
    role::finish(child)
}

/// The page is its standard input, the pipe its standard output.
pub(crate) fn serve_waiter(_: &str) -> Result<(), Failure> {
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let mut to = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    waiting::serve(&arena, || Ok(to.write_all(b"!")?))
}

fn serve<R: Read, W: Write>(size: &str, bytes: &mut Bytes<R, W>) -> Result<(), Failure> {
    cores::pin_second()?;
    match size {
        _ if size.starts_with("lane ") => lane::serve(size[5..].parse()?, bytes),
        "8" => link::serve::<8>(bytes),
        _ => link::serve::<64>(bytes),
    }
}
