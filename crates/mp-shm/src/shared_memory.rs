//! Shared memory that has a name, for programs that are not related.
//!
//! The memory is mapped by the crate `shared_memory`; who makes, sizes, locks and removes names is decided here, since that
//! crate leaves all of it to chance. What a name stands for is in one of these states:
//!
//! | state | name | mark | shared lock | next |
//! | --- | --- | --- | --- | --- |
//! | unnamed | – | – | its maker's | made (`create` step 3); its maker's death frees it |
//! | made | yes | yes | each user's | left, kept, gone |
//! | left | yes | yes | nobody's | made (`open`), gone (`reap`, or `create` of the name) |
//! | kept | yes | no | any | gone (`unlink`, `remove`) |
//! | gone | – | any | each user's | freed with its last user |
//!
//! Steps of `create`: (1) a file without a name, (2) its memory allocated, a shared lock on it, the mark set, (3) the name
//! linked to it, whole, or refused because it is taken, (4) mapped. Killed before 3 nothing is left; from 3 on the
//! segment is whole, and `left` once its users are gone. Steps of `open`: (1) opened, (2) locked and looked at, (3) mapped,
//! and the name still stands for it. Steps of `reap`: (1) locked exclusively, (2) removed.
//!
//! Invariants: (1) a name of ours stands for a segment of its final size, really there. (2) While a user holds the shared
//! lock, nobody else removes the name as unused; who finds the name changed after locking starts again. (3) `shared_memory`
//! never owns a name, so it never unlinks one. (4) The creator's end removes the name only in the very process that created it
//! (pid and start time), only while it stands for the very file, and only while the mark is there. (5) Nobody waits for a
//! lock.

use crate::element::Element;
use crate::error::during;
use crate::mapping::Mapping;
use crate::named_error::{CreateError, OpenError};
use crate::slot::Slot;
use crate::sys::names::{self, Inode};
use crate::sys::own::Own;
use crate::{segment, sys};
use ::shared_memory::{ShmemConf, ShmemError};
use mp_core::{Handle, Identity, step};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::{fmt, io};

/// How often something else may take or remove the name meanwhile before that is an error; each time somebody made progress.
const TRIES: u32 = 1000;

/// Shared memory with a name, by which unrelated programs of one user find it.
///
/// Python's `multiprocessing.shared_memory.SharedMemory(name)` opens the same name, and the other way round: all bytes are the
/// user's, from the first one on.
///
/// ```
/// use mp_shm::SharedMemory;
///
/// # let name = format!("mp-doc-{}", std::process::id());
/// # let name = &*name;
/// let ours = SharedMemory::create(name, 4096)?; // zeroed
/// let theirs = SharedMemory::open(name)?; // in any program
/// ours.copy_in(100, b"hello");
/// let mut bytes = [0; 5];
/// theirs.copy_out(100, &mut bytes);
/// assert_eq!(&bytes, b"hello");
/// theirs.at::<u64>(8).fetch_add(1);
/// assert_eq!(ours.at::<u64>(8).get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Whose the name is
///
/// The process that created the segment removes its name when the last clone there is dropped, or when it ends by returning
/// from `main` or by `exit`. Whoever has it open keeps the memory. [`persist`](SharedMemory::persist) leaves the name in place,
/// [`unlink`](SharedMemory::unlink) removes it now.
///
/// A name is the one thing here that can outlive a process which is *killed*: SIGKILL, a signal nobody handles, `abort`. Such a
/// leftover is whole and can be opened; creating the name again replaces it when nobody uses it any more, and [`reap`] removes all
/// of them. A clone in a forked child, or one that was sent to another process, never removes the name.
///
/// # Sizes, rights and trust
///
/// Memory is really there from the start: more than there is, is an error, not a SIGBUS later. Also a segment that another program
/// has sized without that is filled up by [`open`](SharedMemory::open). The file's mode is 0600, for this user alone. Whoever may open it may also
/// truncate it under its users, which ends them by SIGBUS; memory without a name
/// ([`Array`](crate::Array), [`Frozen`](crate::Frozen)) is sealed against that.
///
/// Before Python 3.13 every Python program that has opened a segment removes its name when it ends, whoever created it. Since 3.13,
/// `track=False` stops that.
///
/// # When a process dies
///
/// - **Making it:** there is no such name, or a whole segment. **Using it:** what it wrote stays, nobody else notices.
/// - A creator that is killed leaves the name: the next one to create it gets it, or `reap` removes it, once nobody uses it.
#[derive(Clone)]
#[doc(alias = "shm_open")]
pub struct SharedMemory(Arc<Inner>);

struct Inner {
    map: Mapping,
    /// Carries the shared lock; a duplicate carries the same.
    fd: Handle,
    name: String,
    inode: Inode,
    /// The process that created it, in that process only.
    creator: Option<Identity>,
}

impl SharedMemory {
    /// Makes `size` zeroed bytes of shared memory under `name`.
    ///
    /// Nobody can open the name before the segment is whole. A leading `/` is left out, as Python does.
    ///
    /// # Errors
    ///
    /// [`CreateError::Exists`] when the name is taken, unless only by a leftover of a killed process; else when there is not
    /// that much memory, or the name or size is none.
    pub fn create(name: &str, size: usize) -> Result<SharedMemory, CreateError> {
        SharedMemory::create_sized(name, size, &[])
    }

    /// Makes shared memory under `name` that holds `bytes` before anybody can open it.
    ///
    /// # Errors
    ///
    /// As [`create`](SharedMemory::create).
    pub fn create_with(name: &str, bytes: &[u8]) -> Result<SharedMemory, CreateError> {
        SharedMemory::create_sized(name, bytes.len(), bytes)
    }

    fn create_sized(name: &str, size: usize, bytes: &[u8]) -> Result<SharedMemory, CreateError> {
        let name = plain(name).ok_or_else(|| CreateError::InvalidName(name.to_owned()))?;
        if size == 0 {
            return Err(CreateError::ZeroSize);
        }
        for _ in 0..TRIES {
            match make(name, size, bytes) {
                Ok(Some(made)) => return Ok(SharedMemory(at_exit_too(made))),
                // It was removed again at once, by somebody else.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !reap_if(name, |inode| names::mapped().is_ok_and(|mapped| !mapped.contains(&inode))) {
                        return Err(CreateError::Exists(name.to_owned()));
                    }
                }
                Err(error) => return Err(CreateError::Io(verb("create", name, error))),
            }
        }
        Err(CreateError::Io(verb("create", name, io::ErrorKind::ResourceBusy.into())))
    }

    /// Opens the segment that has `name`, with the size it has.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`] when there is none, or it is just being removed; [`OpenError::Unfinished`] when another
    /// program has made the name and given it no size yet (none of ours is ever seen so).
    pub fn open(name: &str) -> Result<SharedMemory, OpenError> {
        let name = plain(name).ok_or_else(|| OpenError::InvalidName(name.to_owned()))?;
        for _ in 0..TRIES {
            match attach(name) {
                Ok(Attached::Whole(inner)) => return Ok(SharedMemory(Arc::new(inner))),
                Ok(Attached::Unfinished) => return Err(OpenError::Unfinished(name.to_owned())),
                Ok(Attached::Changed) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(OpenError::NotFound(name.to_owned()));
                }
                Err(error) => return Err(OpenError::Io(verb("open", name, error))),
            }
        }
        Err(OpenError::Io(verb("open", name, io::ErrorKind::ResourceBusy.into())))
    }

    /// Removes a name without opening it, whoever created it; false when there was none. Whoever has it open keeps the
    /// memory.
    ///
    /// # Errors
    ///
    /// When it is another user's, or no name.
    pub fn remove(name: &str) -> io::Result<bool> {
        let name = plain(name).ok_or_else(|| io::Error::from(OpenError::InvalidName(name.to_owned())))?;
        during(names::remove_any(name), || format!("remove the name of shared memory `{name}`"))
    }

    /// Its name, without a leading `/`. It may stand for another segment by now, or for none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Maps every page into this process now, where it would otherwise be mapped when it is first touched. Which pages there are is
    /// for the file system `/dev/shm` to say, at its mounting.
    ///
    /// # Errors
    ///
    /// When there is no memory for the page tables.
    pub fn prefault(&self) -> io::Result<()> {
        during(self.0.map.prefault(), || format!("prefault shared memory `{}`", self.0.name))
    }

    /// How many bytes; never changes.
    #[inline]
    #[must_use]
    #[doc(alias = "size")]
    pub fn len(&self) -> usize {
        self.0.map.len()
    }

    /// Whether there are no bytes: never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.map.is_empty()
    }

    /// Removes the name now; whoever has the segment open keeps the memory. False when the name is gone already, or stands
    /// for another segment.
    ///
    /// # Errors
    ///
    /// When the segment is another user's.
    pub fn unlink(&self) -> io::Result<bool> {
        let done = names::remove(&self.0.name, self.0.inode);
        during(done, || format!("remove the name of shared memory `{}`", self.0.name))
    }

    /// Leaves the name in place when its creator ends and when nobody uses it, until [`unlink`](SharedMemory::unlink) or
    /// [`remove`](SharedMemory::remove): also [`reap`] passes it over. Any user of the segment may ask for that.
    ///
    /// # Errors
    ///
    /// When the segment is another user's.
    pub fn persist(&self) -> io::Result<()> {
        during(names::unmark(self.0.fd.shared()), || {
            format!("keep the name of shared memory `{}`", self.0.name)
        })
    }

    /// Copies `bytes` to `offset`, at the speed of `memcpy` and not in one step.
    ///
    /// # Panics
    ///
    /// When they do not fit.
    #[track_caller]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        self.0.map.copy_in(offset, bytes);
    }

    /// Copies from `offset` into `bytes`, at the speed of `memcpy` and not in one step.
    ///
    /// # Panics
    ///
    /// When there are not that many.
    #[track_caller]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        self.0.map.copy_out(offset, bytes);
    }

    /// A copy of all bytes; see [`copy_out`](SharedMemory::copy_out).
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.map.append_to(0, self.len(), &mut bytes);
        bytes
    }

    /// The element at byte `offset`, to read or change it in one step.
    ///
    /// # Panics
    ///
    /// When it does not lie inside, or `offset` is not a multiple of its size.
    #[must_use]
    #[track_caller]
    pub fn at<T: Element>(&self, offset: usize) -> Slot<'_, T> {
        Slot::in_map(&self.0.map, offset)
    }

    /// The byte at `offset` as an atomic, for orderings of your own.
    ///
    /// # Panics
    ///
    /// When it does not lie inside.
    #[must_use]
    pub fn atomic_u8(&self, offset: usize) -> &AtomicU8 {
        self.0.map.atomic_u8(offset)
    }

    /// The two bytes at `offset` as an atomic, for orderings of your own.
    ///
    /// # Panics
    ///
    /// When they do not lie inside, or are not aligned.
    #[must_use]
    pub fn atomic_u16(&self, offset: usize) -> &AtomicU16 {
        self.0.map.atomic_u16(offset)
    }

    /// The four bytes at `offset` as an atomic, for orderings of your own.
    ///
    /// # Panics
    ///
    /// When they do not lie inside, or are not aligned.
    #[must_use]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        self.0.map.atomic_u32(offset)
    }

    /// The eight bytes at `offset` as an atomic, for orderings of your own.
    ///
    /// # Panics
    ///
    /// When they do not lie inside, or are not aligned.
    #[must_use]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        self.0.map.atomic_u64(offset)
    }

    /// The address of the first byte in this process, page-aligned and good as long as `self` or a clone lives. Others may
    /// write there at any time: only atomic or volatile accesses through it are sound, and no reference to plain data is.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.map.as_ptr()
    }
}

/// Removes the names of segments that nobody uses any more, and returns them.
///
/// These are leftovers of creators that were killed. A name is passed over when somebody has it open (also a foreign
/// program such as Python), when it was [persisted](SharedMemory::persist), when it is another user's, and when it was not made
/// by this crate.
///
/// # Errors
///
/// When names or processes cannot be listed.
pub fn reap() -> io::Result<Vec<String>> {
    let look = || Ok((names::all()?, names::mapped()?));
    let (all, mapped): (Vec<String>, HashSet<Inode>) =
        during(look(), || "look for unused shared memory".into())?;
    Ok(all.into_iter().filter(|name| reap_if(name, |inode| !mapped.contains(&inode))).collect())
}

/// Removes the name if it is a leftover and `unused`; anything in the way means that it is not.
fn reap_if(name: &str, unused: impl FnOnce(Inode) -> bool) -> bool {
    let reap = || -> io::Result<bool> {
        let fd = names::open(name)?;
        let inode = Inode::of(&fd)?;
        // What takes long comes before the lock: once that is held, whoever opens the name takes it for gone.
        if !names::is_marked(&fd) || !unused(inode) || !names::claim(&fd)? {
            return Ok(false);
        }
        step!("shm.reap", 1);
        let removed = names::is_marked(&fd) && names::remove(name, inode)?;
        step!("shm.reap", 2);
        Ok(removed)
    };
    reap().unwrap_or(false)
}

/// The name as a file in the directory of names, if it can be one.
fn plain(name: &str) -> Option<&str> {
    let plain = name.strip_prefix('/').unwrap_or(name);
    let fits = !plain.is_empty() && plain.len() <= 255 && !plain.contains(['/', '\0']);
    (fits && plain != "." && plain != "..").then_some(plain)
}

fn verb(verb: &str, name: &str, error: io::Error) -> io::Error {
    match during::<()>(Err(error), || format!("{verb} shared memory `{name}`")) {
        Ok(()) => io::ErrorKind::Other.into(),
        Err(error) => error,
    }
}

/// The steps of `create`; `None` when somebody removed the name before it was mapped.
fn make(name: &str, size: usize, bytes: &[u8]) -> io::Result<Option<Inner>> {
    let fd = names::unnamed()?;
    step!("shm.create", 1);
    sys::allocate(&fd, 0, size as u64)?;
    sys::write_at(&fd, bytes, 0)?;
    if !names::share(&fd)? {
        return Ok(None);
    }
    names::mark(&fd)?;
    step!("shm.create", 2);
    names::publish(&fd, name)?;
    step!("shm.create", 3);
    let made = attach_locked(name, fd.try_clone()?, size, Some(Identity::current()));
    step!("shm.create", 4);
    match made {
        Ok(Attached::Whole(made)) => Ok(Some(made)),
        Ok(_) => Ok(None),
        Err(error) => {
            names::remove(name, Inode::of(&fd)?)?;
            Err(error)
        }
    }
}

enum Attached {
    Whole(Inner),
    /// Its maker has not given it a size yet.
    Unfinished,
    /// The name stands for something else than a moment ago.
    Changed,
}

/// The steps of `open`.
fn attach(name: &str) -> io::Result<Attached> {
    let fd = names::open(name)?;
    step!("shm.open", 1);
    if !names::share(&fd)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    let size = sys::size(&fd)?;
    if size == 0 {
        return Ok(Attached::Unfinished);
    }
    if names::has_holes(&fd)? {
        sys::allocate(&fd, 0, size)?;
    }
    step!("shm.open", 2);
    let size = usize::try_from(size).map_err(|_| segment::invalid("it is larger than the address space"))?;
    attach_locked(name, fd, size, None)
}

/// Maps the file behind `fd`, which is locked, by its name.
fn attach_locked(name: &str, fd: OwnedFd, size: usize, creator: Option<Identity>) -> io::Result<Attached> {
    let inode = Inode::of(&fd)?;
    let opened = names::with_standard_streams(&fd, || ShmemConf::new().os_id(format!("/{name}")).open())?;
    let map = match opened {
        Ok(shmem) => Mapping::named(shmem),
        Err(ShmemError::MapOpenFailed(code)) => {
            let error = io::Error::from_raw_os_error(code.cast_signed());
            return if Inode::at(name) == Some(inode) { Err(error) } else { Ok(Attached::Changed) };
        }
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    // The name stood for this file before, and does now; a file that has lost its name never gets it again. So it is what
    // was mapped in between.
    if Inode::at(name) != Some(inode) || map.len() != size {
        return Ok(Attached::Changed);
    }
    step!("shm.open", 3);
    Ok(Attached::Whole(Inner { map, fd: Handle::from(fd), name: name.to_owned(), inode, creator }))
}

static CREATED: Own<Mutex<Vec<Weak<Inner>>>> = Own::new();

/// What this process created loses its name also when the process ends without dropping it.
fn at_exit_too(inner: Inner) -> Arc<Inner> {
    extern "C" fn last() {
        let created = match CREATED.get().try_lock() {
            Ok(mut created) => std::mem::take(&mut *created),
            Err(TryLockError::Poisoned(created)) => std::mem::take(&mut *created.into_inner()),
            // Another thread is creating one right now: no waiting at the exit.
            Err(TryLockError::WouldBlock) => return,
        };
        created.iter().filter_map(Weak::upgrade).for_each(|inner| inner.end_of_creator());
    }
    sys::exit::at_exit(last);
    let inner = Arc::new(inner);
    let mut created = CREATED.get().lock().unwrap_or_else(PoisonError::into_inner);
    created.retain(|inner| inner.strong_count() > 0);
    created.push(Arc::downgrade(&inner));
    inner
}

impl Inner {
    fn end_of_creator(&self) {
        if self.creator == Some(Identity::current()) && names::is_marked(self.fd.shared()) {
            // What cannot be removed stays as what a kill would leave.
            let _ = names::remove(&self.name, self.inode);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end_of_creator();
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory")
            .field("name", &self.0.name)
            .field("len", &self.len())
            .field("creator", &self.0.creator)
            .finish_non_exhaustive()
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// Crosses as its descriptor: the receiver has the same memory and is one of its users, whatever becomes of the name.
impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0.fd, &self.0.name).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SharedMemory, D::Error> {
        let (fd, name) = <(Descriptor, String)>::deserialize(deserializer)?;
        SharedMemory::received(fd.0, name).map_err(serde::de::Error::custom)
    }
}

/// A descriptor that came in a message.
pub(crate) struct Descriptor(pub(crate) OwnedFd);

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Descriptor, D::Error> {
        mp_core::handle::deserialize_fd(deserializer).map(Descriptor)
    }
}

impl SharedMemory {
    /// Its descriptor.
    pub(crate) fn handle(&self) -> &Handle {
        &self.0.fd
    }

    fn received(fd: OwnedFd, name: String) -> io::Result<SharedMemory> {
        if plain(&name) != Some(&*name) || !names::is_named_memory(&fd)? {
            return Err(segment::invalid("it is no named segment"));
        }
        let size = usize::try_from(sys::size(&fd)?).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| segment::invalid("it has no size that can be mapped"))?;
        let map = Mapping::new(segment::map(&fd, 0, size)?);
        let inode = Inode::of(&fd)?;
        Ok(SharedMemory(Arc::new(Inner { map, fd: Handle::from(fd), name, inode, creator: None })))
    }
}
