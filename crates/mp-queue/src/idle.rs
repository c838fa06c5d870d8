//! What goes back when nothing is inside: memory that was needed once, and handles of values that never came.

use crate::core::Core;
use mp_pipe::packet::Inbox;
use mp_pipe::ring::ReaderCache;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

/// What is left large after an idle slice is given back.
const IDLE_KEEPS: u64 = 1 << 20;

/// After so many large values without an idle slice, the memory of the last one is kept for the next.
const KEPT_AFTER: u32 = 3;

impl Core {
    /// The queue was idle for a slice: large regions go back. Not worth waiting for anybody.
    pub(crate) fn give_back<F: AsFd>(&self, socket: F) {
        let Some(mut get) = self.lock_get_if_free() else { return };
        self.large.store(0, Relaxed);
        let reader = get.local();
        // What another consumer, dead by now perhaps, has read out is left first.
        let known = self.ring.release_left_regions(reader);
        if known.is_ok() && reader.region_size() >= IDLE_KEEPS {
            self.leave_large_region(reader);
        }
        if let Some(claims) = &self.claims {
            claims.trim();
        }
        // For the news of a producer's death, who left strays.
        drop(self.lock_put_if_free());
        drop(get);
        self.discard_strays(socket);
    }

    /// Under the get lock: a region of its own is used up by its message, of `length` bytes. Its memory goes back with it, unless such messages keep
    /// coming: then the next one takes it over, as long as that is allowed for its size. Who polls never waits in vain, so he keeps none.
    #[cold]
    pub(crate) fn leave_used_region(&self, reader: &mut ReaderCache, length: usize) {
        // Short ones may have come behind a large one.
        let large = length as u64 >= IDLE_KEEPS && reader.may_pass_on();
        let before = if large { self.large.fetch_add(1, Relaxed) } else { self.large.load(Relaxed) };
        if before < KEPT_AFTER || !reader.may_pass_on() || !self.values_are_not_polled() {
            self.leave_large_region(reader);
        }
    }

    /// Whether this process may have kept memory for the next large value.
    #[inline]
    pub(crate) fn keeps_memory(&self) -> bool {
        self.large.load(Relaxed) > KEPT_AFTER
    }

    /// Under the get lock: when nothing is inside, the next message goes to a small region, and the one before is given back.
    pub(crate) fn leave_large_region(&self, reader: &mut ReaderCache) {
        if !self.ring.is_empty() {
            return;
        }
        {
            let Some(mut put) = self.lock_put_if_free() else { return };
            // Failing leaves the memory where it is, for the next time.
            let _ = self.ring.shrink(put.local());
        }
        let _ = self.ring.release_left_regions(reader);
    }

    /// Closes handles that were sent for records that never came (invariant 5).
    #[inline]
    pub(crate) fn discard_strays<F: AsFd>(&self, socket: F) {
        if self.strays().load(Relaxed) != 0 {
            // Closed after the locks were given back: closing may take its time.
            drop(self.take_strays(socket));
        }
    }

    #[cold]
    fn take_strays<F: AsFd>(&self, socket: F) -> Option<Inbox> {
        let _get = self.lock_get_if_free()?;
        let _put = self.lock_put_if_free()?;
        if !self.ring.is_empty() {
            return None;
        }
        let mut inbox = Inbox::default();
        if inbox.drain(socket).is_ok() {
            self.strays().store(0, Relaxed);
        }
        Some(inbox)
    }
}
