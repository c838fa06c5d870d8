//! Something done once.

use crate::error::LockError;
use crate::orphan::{self, Held, News, Orphanable};
use crate::raw::done::Done;
use mp_core::Deadline;
use mp_shm::{Format, SharedMemory};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;

const FORMAT: Format = orphan::format(*b"ONCE", 0);

/// Something that one process does once for all.
///
/// Cloning it, or sending it to another process, gives another handle on the same one.
///
/// # When a process dies
///
/// - **Running it** (or it panics there): it counts as not done, and the next caller runs it. What the dead one had
///   done by then is for the function to find out.
/// - **Waiting for it**: nobody else notices.
///
/// # Examples
///
/// ```
/// let once = mp_lock::Once::new()?;
/// let mut runs = 0;
/// once.call_once(|| runs += 1)?;
/// once.call_once(|| runs += 1)?;
/// assert_eq!(runs, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Once(Arc<Orphanable>);

impl Once {
    /// Makes one that is not done.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left for it.
    pub fn new() -> io::Result<Once> {
        Orphanable::create(FORMAT, 0, |_| {}).map(Once)
    }

    /// How many bytes of named memory it takes.
    pub const SIZE: usize = orphan::size(0);

    /// Makes a free one at `offset` of named memory, a multiple of 64, for programs that share nothing but the name.
    ///
    /// It stays there as long as the memory, whoever dies; others [`open_in`](Once::open_in) it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is one, `InvalidInput` when it does not fit.
    pub fn new_in(memory: &SharedMemory, offset: usize) -> io::Result<Once> {
        Orphanable::create_in(memory, offset, FORMAT, 0, |_| {}).map(Once)
    }

    /// The one that was made at `offset` of named memory.
    ///
    /// # Errors
    ///
    /// `NotFound` when none was made there yet, `InvalidData` when it is something else.
    pub fn open_in(memory: &SharedMemory, offset: usize) -> io::Result<Once> {
        Orphanable::open_in(memory, offset, FORMAT, 0).map(Once)
    }

    /// Runs `f` unless it is done; when this returns, it is. Who comes while another runs it waits.
    ///
    /// # Errors
    ///
    /// [`LockError::AlreadyHeld`] when called from inside of `f`, or the system refuses.
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), LockError> {
        if self.is_completed() {
            return Ok(());
        }
        match self.0.acquire(Deadline::NEVER) {
            // A runner's death is no news: it is not done, that is all.
            Ok(News::OwnerDied) => self.0.mark_recovered(),
            Ok(News::None) => {}
            Err(refusal) => return Err(crate::AcquireError::<()>::refused(refusal).into_owned()),
        }
        let _running = Held::new(&self.0);
        self.done().run(f);
        Ok(())
    }

    fn done(&self) -> Done<'_> {
        Done(self.0.word())
    }

    /// Whether it is done. Can change from no to yes at any time, never back.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.done().is_done()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("completed", &self.is_completed())
            .field("runner", &self.0.holder())
            .finish_non_exhaustive()
    }
}

impl Serialize for Once {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.segment().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Once, D::Error> {
        Orphanable::deserialize(deserializer, FORMAT, 0).map(Once)
    }
}
