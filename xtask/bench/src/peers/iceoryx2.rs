//! iceoryx2: publish and subscribe over shared memory. Nobody sleeps here: a side that has nothing polls, which is its fastest.

use std::fmt::Debug;
use std::fs::{self, File};
use std::hint::spin_loop;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::lane::{self, Lane};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role};

struct Ends {
    to: Publisher<ipc::Service, [u8], ()>,
    from: Subscriber<ipc::Service, [u8], ()>,
    _node: Node<ipc::Service>,
}

fn failed(error: impl Debug) -> Failure {
    format!("iceoryx2: {error:?}").into()
}

/// What the names of a sample begin with, in `/dev/shm` and below [`root`]: nobody else's do.
fn prefix(pid: u32) -> String {
    format!("mp-bench-{pid}-")
}

/// Where a sample keeps its files.
fn root(pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("mp-bench-{pid}"))
}

/// Names of its own for each sample, so that they can be removed: iceoryx2 leaves a page and a directory behind.
fn config(pid: u32) -> Result<Config, Failure> {
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(pid).as_bytes()).map_err(failed)?;
    let root = root(pid);
    let root = root.to_str().ok_or("a temporary directory whose name is no text")?;
    config.global.set_root_path(&Path::new(root.as_bytes()).map_err(failed)?);
    Ok(config)
}

/// Removes what the sample in process `pid`, which has ended with all that it started, has left.
pub(crate) fn remove_names(pid: u32) -> io::Result<()> {
    let prefix = prefix(pid);
    for entry in fs::read_dir("/dev/shm")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir_all(root(pid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Ends {
    /// Side 0 or 1 of what is named after a process; no more than 16 MiB of messages at a time.
    fn new(pid: u32, side: usize, size: usize) -> Result<Self, Failure> {
        let node = NodeBuilder::new().config(&config(pid)?).create::<ipc::Service>().map_err(failed)?;
        let room = ((16 << 20) / size).clamp(2, 1024);
        let service = |way: usize| {
            let name = ServiceName::new(&format!("bench-{pid}-{way}")).map_err(failed)?;
            let service = node.service_builder(&name).publish_subscribe::<[u8]>();
            // A message that finds no room waits: none is lost.
            let service =
                service.enable_safe_overflow(false).history_size(0).subscriber_max_buffer_size(room);
            service.max_publishers(1).max_subscribers(1).open_or_create().map_err(failed)
        };
        let (out, back) = (service(side)?, service(1 - side)?);
        let from = back.subscriber_builder().buffer_size(room).create().map_err(failed)?;
        let to = out.publisher_builder().initial_max_slice_len(size);
        let to =
            to.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered).create().map_err(failed)?;
        Ok(Self { to, from, _node: node })
    }
}

impl Lane for Ends {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        let sample = self.to.loan_slice_uninit(message.len()).map_err(failed)?;
        sample.write_from_slice(message).send().map_err(failed)?;
        Ok(())
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            if let Some(sample) = self.from.receive().map_err(failed)? {
                buffer.copy_from_slice(sample.payload());
                return Ok(());
            }
            spin_loop();
        }
    }
}

impl<const N: usize> Link<N> for Ends {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Lane::send(self, message)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        loop {
            if let Some(sample) = self.from.receive().map_err(failed)? {
                *message = sample.payload().try_into()?;
                return Ok(());
            }
            spin_loop();
        }
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_ends(8, "8", |ends| link::round_trip::<8>(meter, ends))
}

pub(crate) fn stream_8(meter: &mut Meter) -> Measured {
    with_ends(8, "8", |ends| link::stream::<8>(meter, ends))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_ends(64, "64", |ends| link::stream::<64>(meter, ends))
}

pub(crate) fn lane<const SIZE: usize>(meter: &mut Meter) -> Measured {
    with_ends(SIZE, &format!("lane-{SIZE}"), |ends| lane::stream::<SIZE>(meter, ends))
}

fn with_ends(size: usize, how: &str, measure: impl FnOnce(&mut Ends) -> Measured) -> Measured {
    let (arena, fd) = Arena::create()?;
    let pid = std::process::id();
    let mut ends = Ends::new(pid, 0, size)?;
    let child = role::command("iceoryx2", &format!("{pid} {how}"), fd)?.spawn()?;
    // Who is not there yet gets nothing.
    arena.await_ready();
    measure(&mut ends)?;
    role::finish(child)
}

/// The second process: the page is its standard input.
pub(crate) fn serve(argument: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let arena = Arena::open(&File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    let (pid, how) = argument.split_once(' ').ok_or("a process and a size")?;
    let size: usize = how.trim_start_matches("lane-").parse()?;
    let mut ends = Ends::new(pid.parse()?, 1, size)?;
    arena.ready();
    match how {
        "8" => link::serve::<8>(&mut ends),
        "64" => link::serve::<64>(&mut ends),
        _ => lane::serve(size, &mut ends),
    }
}
