//! The fork server, as itself: a process with one thread that has stopped inside `init()` and copies itself when told to.
//!
//! | step | what has happened | killed here |
//! | --- | --- | --- |
//! | `process.zygote:1` | an order was taken: a word for the pid, a socket for the child | the socket closes with it and the word is zero: the program starts another fork server and orders again |
//! | `process.zygote:2` | the child exists, and its pid stands in the word | the child goes on: it has all it needs, and is the program's |
//! | `process.zygote:3` | its own copy of the child's socket is closed | as before |
//!
//! Invariants:
//! 1. One thread, or nothing is forked.
//! 2. A child's socket is in the fork server only from taking the order until step 3, and in no other child, so its end means that
//!    there is no child, or that it has ended.
//! 3. The child closes what is the fork server's own: the orders, the lifeline, its handshake.

use crate::protocol::{self, Answer, NotForked};
use crate::sys::births::Births;
use crate::sys::clone::{CloneError, Cloned, Cloner};
use crate::sys::images;
use crate::task::Call;
use crate::{inherited, sys::process as sys, sys::signals};
use mp_core::socket::Until;
use mp_core::{Deadline, Identity};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::panic;
use std::sync::Arc;
use std::time::Duration;

/// What it works with.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) orders: Arc<OwnedFd>,
    pub(crate) births: Arc<OwnedFd>,
    pub(crate) warm_up: Option<Call>,
    pub(crate) lifeline: Option<OwnedFd>,
    pub(crate) parent: Identity,
}

/// An order: the child's end of its socket, and the word for its pid.
#[derive(Debug)]
struct Order {
    word: u32,
    socket: OwnedFd,
}

/// Forks a child for each order. Returns in each child, with its socket; in the fork server itself only when the program has no
/// more orders, ever.
///
/// # Errors
///
/// When it cannot begin.
pub(crate) fn serve(service: Service) -> io::Result<Option<OwnedFd>> {
    let Service { orders, births: file, warm_up, lifeline, parent } = service;
    let births = Births::open(&file)?;
    drop(file);
    births.keep_from_children();
    if let Some(warm_up) = warm_up {
        // What it made stays; what it returned is nothing. A panic, whose message is out by then, ends the fork server.
        panic::catch_unwind(|| drop(warm_up.call_without_arguments()))
            .map_err(|_| io::Error::other("the warm-up function panicked"))?;
        // Where it leaves others behind, each order is declined.
        let _ = sys::outlive_threads();
    }
    // What the warm-up wrote is written once.
    inherited::flush_stdout();
    // Looked up once for all children.
    images::know();
    // Another namespace counts pids otherwise: what is left in a word would name another process.
    let same_namespace = rustix::process::getppid()
        .is_some_and(|pid| pid.as_raw_nonzero().get().cast_unsigned() == parent.pid);
    let cloner = if same_namespace { Cloner::of_this_thread() } else { Err(CloneError::Unsupported) };
    // An interrupt from the terminal goes to all processes there. The program decides what it means; its children have it as
    // they would have it without a fork server.
    let interrupts = signals::ignore_interrupts();
    while let Some(Order { word, socket }) = next_order(&orders)? {
        mp_core::step!("process.zygote", 1);
        let born = births.clear(word as usize);
        let cloned = match (&cloner, born) {
            (Ok(cloner), Some(born)) => cloner.clone_sibling(born),
            (Err(_), _) | (_, None) => Err(CloneError::Unsupported),
        };
        match cloned {
            Ok(Cloned::Copy) => {
                signals::restore_interrupts(interrupts);
                drop((orders, lifeline));
                // Not mapped here.
                std::mem::forget(births);
                return Ok(Some(socket));
            }
            Ok(Cloned::Here) => {
                mp_core::step!("process.zygote", 2);
            }
            Err(error) => decline(&socket, &error),
        }
        drop(socket);
        mp_core::step!("process.zygote", 3);
    }
    Ok(None)
}

fn decline(socket: &OwnedFd, error: &CloneError) {
    let why = match error {
        CloneError::Threads | CloneError::Unsupported => NotForked::Unfit,
        CloneError::Io(error) => NotForked::System(error.raw_os_error().unwrap_or(libc::EAGAIN)),
    };
    // A few bytes into an empty buffer; who has gone meanwhile needs no answer.
    let until = Until { deadline: Deadline::after(Duration::from_secs(1)), gone: None };
    let _ = protocol::send(socket, &Answer::NotForked(why), &until);
}

/// Waits for an order; none when the program's end is closed.
fn next_order(orders: &OwnedFd) -> io::Result<Option<Order>> {
    loop {
        let mut word = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(&mut word)];
        let length = match recvmsg(orders, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok(None);
        }
        let socket = control.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        // Without a socket (no descriptor left here) the program sees it closed.
        if let Some(socket) = socket {
            return Ok(Some(Order { word: u32::from_ne_bytes(word), socket }));
        }
    }
}
