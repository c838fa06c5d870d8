//! OS handles as serde values.
//!
//! While [`wire::encode`](crate::wire::encode()) runs, a handle puts its file descriptor into a table of this thread and
//! serialises as the index; the table travels beside the bytes, and [`wire::decode`](crate::wire::decode()) lays the
//! received descriptors out for the indices to pick up. Outside, serialising a handle is an error that says so.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Told what became of a handle that was encoded: [`Departure::sent`] once the message is committed, otherwise dropped.
pub trait Departure: Send {
    /// The message that carries the handle can no longer be taken back.
    fn sent(&mut self);
}

struct Outbound {
    fd: Arc<OwnedFd>,
    departure: Option<Box<dyn Departure>>,
}

/// The handles of one encoded message, in the order of their indices.
#[derive(Default)]
pub struct Handles(Vec<Outbound>);

impl Handles {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none, as in most messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The descriptors, in order.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|out| out.fd.as_fd())
    }

    /// Copies of the descriptors, for a message that is kept to be sent again.
    #[must_use]
    pub fn shared(&self) -> Vec<Arc<OwnedFd>> {
        self.0.iter().map(|out| Arc::clone(&out.fd)).collect()
    }

    /// The message is committed: ends that move have left this process.
    #[inline]
    pub fn sent(mut self) {
        for out in &mut self.0 {
            if let Some(departure) = &mut out.departure {
                departure.sent();
            }
        }
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fds()).finish()
    }
}

thread_local! {
    static OUTBOUND: RefCell<Option<Handles>> = const { RefCell::new(None) };
    static INBOUND: RefCell<Option<Vec<Option<OwnedFd>>>> = const { RefCell::new(None) };
}

/// Runs `encode` with a fresh table and returns what it collected; the table of an encoding further out is put back,
/// also when `encode` fails or panics, so that no handle ever leaks into another message.
pub(crate) fn collecting<R>(encode: impl FnOnce() -> R) -> (R, Handles) {
    struct Restore(Option<Handles>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let inner = OUTBOUND.replace(self.0.take());
            drop(inner);
        }
    }
    let restore = Restore(OUTBOUND.replace(Some(Handles::default())));
    let result = encode();
    let handles = OUTBOUND.take().unwrap_or_default();
    drop(restore);
    (result, handles)
}

/// Runs `decode` with `fds` laid out; what it did not pick up is closed.
pub(crate) fn offering<R>(fds: Vec<OwnedFd>, decode: impl FnOnce() -> R) -> R {
    struct Restore(Option<Vec<Option<OwnedFd>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let rest = INBOUND.replace(self.0.take());
            drop(rest);
        }
    }
    let _restore = Restore(INBOUND.replace(Some(fds.into_iter().map(Some).collect())));
    decode()
}

/// Serialises a descriptor as its index in the message's table.
///
/// `departure` is kept with it: an end that moves learns there whether the message was sent.
///
/// # Errors
///
/// Fails outside of an encoding by these crates.
pub fn serialize_fd<S: Serializer>(
    serializer: S,
    fd: &Arc<OwnedFd>,
    departure: Option<Box<dyn Departure>>,
) -> Result<S::Ok, S::Error> {
    let index = OUTBOUND.with_borrow_mut(|table| {
        let table = table.as_mut()?;
        table.0.push(Outbound { fd: Arc::clone(fd), departure });
        u32::try_from(table.0.len() - 1).ok()
    });
    match index {
        Some(index) => serializer.serialize_u32(index),
        None => Err(ser::Error::custom(
            "an OS handle can only be serialised inside a message: pass it as an argument of a process, or send it \
             through a pipe or queue",
        )),
    }
}

/// Takes the descriptor whose index comes next.
///
/// # Errors
///
/// Fails outside of a decoding by these crates, and when the index was taken before or never sent.
pub fn deserialize_fd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    let index = u32::deserialize(deserializer)?;
    INBOUND
        .with_borrow_mut(|table| table.as_mut()?.get_mut(usize::try_from(index).ok()?)?.take())
        .ok_or_else(|| de::Error::custom("a handle that did not travel with this message"))
}

/// A file descriptor shared within this process that may travel in messages.
#[derive(Clone, Debug)]
pub struct Handle(Arc<OwnedFd>);

impl Handle {
    /// The shared descriptor itself.
    #[must_use]
    pub fn shared(&self) -> &Arc<OwnedFd> {
        &self.0
    }
}

impl Handle {
    /// The shared descriptor, without the handle around it.
    #[must_use]
    pub fn into_shared(self) -> Arc<OwnedFd> {
        self.0
    }
}

impl From<OwnedFd> for Handle {
    fn from(fd: OwnedFd) -> Handle {
        Handle(Arc::new(fd))
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fd(serializer, &self.0, None)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Handle, D::Error> {
        deserialize_fd(deserializer).map(Handle::from)
    }
}

/// A foreign descriptor that travels in a message: `Passed<File>`, `Passed<TcpStream>`, `Passed<UnixStream>`,
/// `Passed<OwnedFd>`, or anything else that owns one. The receiver gets a duplicate; the sender keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed<T>(pub T);

impl<T> Passed<T> {
    /// The thing that was passed.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: AsFd> Serialize for Passed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fd = self.0.as_fd().try_clone_to_owned().map_err(ser::Error::custom)?;
        serialize_fd(serializer, &Arc::new(fd), None)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Passed<T>, D::Error> {
        deserialize_fd(deserializer).map(|fd| Passed(T::from(fd)))
    }
}
