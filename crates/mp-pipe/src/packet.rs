//! The socket beside a ring: lifeline, doorbell, and the way of handles.
//!
//! A pair of sequenced-packet sockets, one at each end. Its hang-up comes from the kernel when the last copy of the other end
//! is gone, copies in flight inside messages included. A packet is a bell (one byte) or handles with the number under
//! which a record in the ring asks for them.

use mp_core::deadline::SLICE;
use mp_core::socket::BATCH;
use mp_core::{Handle, news};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const BELL: &[u8] = b"!";

/// A connected pair, closed on exec.
///
/// # Errors
///
/// When no descriptors are left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (left, right) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&left, &right] {
        // For `Inbox::sleep`: all else asks not to wait.
        set_socket_timeout(end, Timeout::Recv, Some(SLICE))?;
    }
    Ok((left, right))
}

/// Rings at the other end; false when nobody is there any more.
#[must_use]
pub fn ring_bell<F: AsFd>(socket: F) -> bool {
    loop {
        match send(&socket, BELL, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN) => {
                news::of_a_death();
                return false;
            }
            // A full socket is readable already, which is all that a bell is for. A bell that the kernel has no memory
            // for says nothing about the other end, which looks by itself after a slice.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Sends `fds` under `number`.
///
/// # Errors
///
/// `QuotaExceeded` when the kernel's budget for handles in flight is used up, `BrokenPipe` when nobody is at the other
/// end. Those that went before a failure are discarded by the receiver, since no record asks for the number.
pub fn send_handles<F: AsFd>(socket: F, number: u64, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in fds.chunks(BATCH) {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(batch));
            let bytes = number.to_ne_bytes();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, flags) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => {
                    return Err(io::ErrorKind::QuotaExceeded.into());
                }
                Err(Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Whether the last copy of the other end is gone. Once true, always true.
#[must_use]
pub fn hung_up<F: AsFd>(socket: F) -> bool {
    // No events asked for: only a hang-up is reported.
    let mut polled = [PollFd::new(&socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match rustix::event::poll(&mut polled, Some(&now)) {
            Ok(_) => {
                let gone = polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
                if gone {
                    news::of_a_death();
                }
                return gone;
            }
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// What one look into the socket brought.
enum Received {
    Bell,
    Handles,
    /// Nothing lies in it, and the other end is there.
    Nothing,
    /// Nothing lies in it, and nothing will.
    End,
}

/// Handles by the number under which they were sent.
pub type Arrived = Vec<(u64, Vec<Handle>)>;

/// Handles that have arrived before the record that asks for them was read.
#[derive(Debug, Default)]
pub struct Inbox {
    arrived: VecDeque<(u64, Vec<Handle>)>,
    /// Numbers of which this process had no room for all handles.
    cut: Vec<u64>,
    /// Whether anything was read from the socket since somebody asked.
    heard: bool,
}

impl Inbox {
    /// An inbox that goes on where another left off: see [`Inbox::arrived`].
    #[must_use]
    pub fn with(arrived: Arrived) -> Inbox {
        Inbox { arrived: arrived.into(), ..Inbox::default() }
    }

    /// What has arrived and was not asked for yet, to travel on with an end that moves.
    pub fn arrived(&self) -> impl ExactSizeIterator<Item = &(u64, Vec<Handle>)> {
        self.arrived.iter()
    }

    /// Whether anything was read since the last call of this.
    pub(crate) fn heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Reads all packets that are there: bells fall silent, handles are kept.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn drain<F: AsFd>(&mut self, socket: F) -> io::Result<()> {
        while self.receive(&socket)? {}
        Ok(())
    }

    /// The `count` handles that were sent under `number`; earlier ones that nobody asked for are closed.
    ///
    /// # Errors
    ///
    /// `NotFound` when they did not come: a process that had read them from the socket died before it read the record.
    /// `QuotaExceeded` when this process has no room for them.
    pub fn take<F: AsFd>(&mut self, socket: F, number: u64, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut found = Vec::new();
        loop {
            while let Some((arrived, _)) = self.arrived.front()
                && *arrived <= number
            {
                if let Some((arrived, handles)) = self.arrived.pop_front()
                    && arrived == number
                {
                    found.extend(handles);
                }
            }
            self.cut.retain(|cut| *cut >= number);
            if self.cut.first() == Some(&number) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            if found.len() >= count {
                return found.into_iter().take(count).map(into_fd).collect();
            }
            // What comes after has come already: the rest never will.
            if !self.arrived.is_empty() || !self.receive(&socket)? {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
    }

    /// Sleeps in the kernel until a packet comes or the other end is gone, a slice at most; true when it is gone. Takes the packet.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn sleep<F: AsFd>(&mut self, socket: F) -> io::Result<bool> {
        match self.receive_with(&socket, RecvFlags::empty())? {
            Received::Bell | Received::Nothing => Ok(false),
            // Its bell is behind it.
            Received::Handles => self.drain(socket).map(|()| false),
            Received::End => Ok(hung_up(socket)),
        }
    }

    /// Reads one packet; false when there is none.
    fn receive<F: AsFd>(&mut self, socket: F) -> io::Result<bool> {
        let received = self.receive_with(&socket, RecvFlags::DONTWAIT)?;
        Ok(matches!(received, Received::Bell | Received::Handles))
    }

    fn receive_with<F: AsFd>(&mut self, socket: &F, wait: RecvFlags) -> io::Result<Received> {
        let mut bytes = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = wait | RecvFlags::CMSG_CLOEXEC;
        let message = loop {
            match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Ok(message) => break message,
                // A peer that left without reading its own bells: the kernel says so once, *before* what it had sent.
                Err(Errno::CONNRESET) => {}
                // Who sleeps has a deadline to look at.
                Err(Errno::INTR) if wait.is_empty() => return Ok(Received::Nothing),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(error) => return Err(error.into()),
            }
        };
        let mut handles = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                handles.extend(fds.map(Handle::from));
            }
        }
        if message.bytes == bytes.len() {
            let number = u64::from_ne_bytes(bytes);
            if message.flags.contains(ReturnFlags::CTRUNC) {
                // The rest is gone; whoever asks for the number is told so.
                self.cut.push(number);
            }
            self.arrived.push_back((number, handles));
            self.heard = true;
            return Ok(Received::Handles);
        }
        self.heard |= message.bytes > 0;
        Ok(if message.bytes > 0 { Received::Bell } else { Received::End })
    }
}

/// The descriptor itself; a copy when the handle is shared with a message on its way.
fn into_fd(handle: Handle) -> io::Result<OwnedFd> {
    match std::sync::Arc::try_unwrap(handle.into_shared()) {
        Ok(fd) => Ok(fd),
        Err(shared) => shared.try_clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_found_by_their_number() {
        let (left, right) = pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        for number in [1, 2, 3] {
            send_handles(&left, number, &[null.as_fd(), null.as_fd()]).unwrap();
            assert!(ring_bell(&left));
        }
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(&right, 2, 2).unwrap().len(), 2);
        inbox.drain(&right).unwrap();
        assert_eq!(inbox.arrived().count(), 1);
        assert_eq!(inbox.take(&right, 3, 2).unwrap().len(), 2);
        assert_eq!(inbox.take(&right, 4, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!hung_up(&right));
        drop(left);
        assert!(hung_up(&right));
    }

    #[test]
    fn a_full_kernel_budget_is_an_error_not_a_block() {
        let (left, _right) = pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let refused = (0..100_000).find_map(|number| send_handles(&left, number, &[null.as_fd()]).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::QuotaExceeded);
    }
}
