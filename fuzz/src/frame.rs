//! Whole messages over a stream socket, from a peer who writes anything.

use super::input::Input;
use super::memory;
use mp_core::Deadline;
use mp_core::socket::{Until, receive};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn say(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let _ = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (theirs, ours) = UnixStream::pair().expect("descriptors");
    // The start of a frame, so that not only the first four bytes are looked at.
    let plain = input.byte();
    if plain % 2 == 0 {
        let mut header = [0; 24];
        header[..4].copy_from_slice(b"MPF1");
        header[4] = input.byte();
        header[8..12].copy_from_slice(&u32::from(input.byte() % 5).to_ne_bytes());
        header[16..24].copy_from_slice(&input.number(40).to_ne_bytes());
        let fds: Vec<_> = (0..plain / 2 % 4).map(|_| memory::any_descriptor(&mut input)).collect();
        say(&theirs, &header, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    }
    while let Some(what) = input.next() {
        let fds: Vec<_> = (0..what % 4).map(|_| memory::any_descriptor(&mut input)).collect();
        say(&theirs, input.bytes(usize::from(what / 4)), &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    }
    if plain % 4 < 2 {
        drop(theirs);
    }
    let until = Until { deadline: Deadline::after(Duration::ZERO), gone: None };
    if let Ok(received) = receive(ours.as_fd(), &until) {
        let _ = mp_core::decode::<super::decode::Tree>(
            received.encoding,
            received.bytes.into(),
            received.handles,
        );
    }
}
