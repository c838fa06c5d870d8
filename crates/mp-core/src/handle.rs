//! OS handles as serde values.
//!
//! While [`wire::encode`](crate::wire::encode()) runs, a handle puts its file descriptor into a table of this thread and
//! serialises as the index; the table travels beside the bytes, and [`wire::decode`](crate::wire::decode()) lays the
//! received descriptors out for the indices to pick up. Outside, serialising a handle is an error that says so.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::cell::{Cell, RefCell};
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
    #[inline(always)]
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

/// What an encoding or decoding of this thread may do with handles. A plain word, so that messages without handles pay no more for it
/// than a store: tables are made with the first handle, and stand in a stack, since a `Serialize` may itself send something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Nothing is being encoded (decoded).
    Outside,
    /// Something is, which has had (was sent with) no handle.
    None,
    /// The top of the stack belongs to it.
    Top,
}

thread_local! {
    static OUT: Cell<Table> = const { Cell::new(Table::Outside) };
    static IN: Cell<Table> = const { Cell::new(Table::Outside) };
    static OUTBOUND: RefCell<Vec<Handles>> = const { RefCell::new(Vec::new()) };
    static INBOUND: RefCell<Vec<Vec<Option<OwnedFd>>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `encode` with a fresh table and returns what it collected; the table of an encoding further out is put back,
/// also when `encode` fails or panics, so that no handle ever leaks into another message.
#[inline]
pub(crate) fn collecting<R>(encode: impl FnOnce() -> R) -> (R, Handles) {
    struct Restore(Table);
    impl Restore {
        #[inline]
        fn restore(&self) -> Handles {
            if OUT.replace(self.0) == Table::Top { pop() } else { Handles::default() }
        }
    }
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            drop(self.restore());
        }
    }
    #[cold]
    fn pop() -> Handles {
        OUTBOUND.with_borrow_mut(Vec::pop).unwrap_or_default()
    }
    let restore = Restore(OUT.replace(Table::None));
    let result = encode();
    let handles = restore.restore();
    std::mem::forget(restore);
    (result, handles)
}

/// Runs `decode` with `fds` laid out; what it did not pick up is closed.
#[inline]
pub(crate) fn offering<R>(fds: Vec<OwnedFd>, decode: impl FnOnce() -> R) -> R {
    struct Restore(Table);
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            if IN.replace(self.0) == Table::Top {
                pop();
            }
        }
    }
    #[cold]
    fn pop() {
        let rest = INBOUND.with_borrow_mut(Vec::pop);
        drop(rest);
    }
    #[cold]
    fn push(fds: Vec<OwnedFd>) {
        INBOUND.with_borrow_mut(|stack| stack.push(fds.into_iter().map(Some).collect()));
    }
    let table = if fds.is_empty() {
        Table::None
    } else {
        push(fds);
        Table::Top
    };
    let _restore = Restore(IN.replace(table));
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
    match enter(fd, departure) {
        Some(index) => serializer.serialize_u32(index),
        None => Err(ser::Error::custom(
            "an OS handle can only be serialised inside a message: pass it as an argument of a process, or send it \
             through a pipe or queue",
        )),
    }
}

/// Puts a handle into the table of the encoding that runs; its index.
fn enter(fd: &Arc<OwnedFd>, departure: Option<Box<dyn Departure>>) -> Option<u32> {
    let table = OUT.get();
    if table == Table::Outside {
        return None;
    }
    OUTBOUND.with_borrow_mut(|stack| {
        if table == Table::None {
            stack.push(Handles::default());
            OUT.set(Table::Top);
        }
        let top = stack.last_mut()?;
        top.0.push(Outbound { fd: Arc::clone(fd), departure });
        u32::try_from(top.0.len() - 1).ok()
    })
}

/// Takes the descriptor whose index comes next.
///
/// # Errors
///
/// Fails outside of a decoding by these crates, and when the index was taken before or never sent.
pub fn deserialize_fd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    let index = u32::deserialize(deserializer)?;
    let of_this_message = IN.get() == Table::Top;
    INBOUND
        .with_borrow_mut(|stack| {
            let table = stack.last_mut().filter(|_| of_this_message)?;
            table.get_mut(usize::try_from(index).ok()?)?.take()
        })
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
