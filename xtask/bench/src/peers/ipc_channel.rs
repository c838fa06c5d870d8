//! ipc-channel: messages over Unix sockets. It starts no processes; the second one is ours, met by a one-shot server.

use std::process::Stdio;

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::contestant::{Failure, Measured};
use crate::lane::{self, Lane};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role};

/// What the second process sends: the ends for the first.
type Ends = (IpcBytesSender, IpcBytesReceiver);

impl<const N: usize> Link<N> for Ends {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.0.send(message)?)
    }

    fn recv(&mut self, message: &mut [u8; N]) -> Result<(), Failure> {
        let received = self.1.recv().map_err(|error| format!("ipc-channel: {error}"))?;
        *message = received.try_into().map_err(|_| "a message of another length")?;
        Ok(())
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_ends("8", |ends| link::round_trip::<8>(meter, ends))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_ends("64", |ends| link::stream::<64>(meter, ends))
}

impl Lane for Ends {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.send(message)?)
    }

    fn recv(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        *buffer = self.1.recv().map_err(|error| format!("ipc-channel: {error}"))?;
        Ok(())
    }
}

pub(crate) fn stream_8(meter: &mut Meter) -> Measured {
    with_ends("8", |ends| link::stream::<8>(meter, ends))
}

pub(crate) fn lane<const SIZE: usize>(meter: &mut Meter) -> Measured {
    with_ends(&format!("lane-{SIZE}"), |ends| lane::stream::<SIZE>(meter, ends))
}

fn with_ends(size: &str, measure: impl FnOnce(&mut Ends) -> Measured) -> Measured {
    let (server, name) = IpcOneShotServer::<Ends>::new()?;
    let child = role::command("ipc-channel", &format!("{size} {name}"), Stdio::null())?.spawn()?;
    let (_, mut ends) = server.accept().map_err(|error| format!("accept: {error}"))?;
    measure(&mut ends)?;
    role::finish(child)
}

/// The second process; the argument is the size of a message and the server's name.
pub(crate) fn serve(argument: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let (size, name) = argument.split_once(' ').ok_or("a size and a name")?;
    let (to_here, from_there) = ipc::bytes_channel()?;
    let (to_there, from_here) = ipc::bytes_channel()?;
    let meeting = IpcSender::<Ends>::connect(name.to_owned())?;
    meeting.send((to_here, from_here)).map_err(|error| format!("meet: {error}"))?;
    let mut ends = (to_there, from_there);
    match size.strip_prefix("lane-") {
        Some(size) => lane::serve(size.parse()?, &mut ends),
        None if size == "8" => link::serve::<8>(&mut ends),
        None => link::serve::<64>(&mut ends),
    }
}
