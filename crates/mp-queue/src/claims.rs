//! The claims of a queue that can be joined: a table of [`Words`], and the bytes of what may be handed out again.
//!
//! They lie in memory of their own. In front a table that grows by blocks, each entry 64 bytes; behind it the bytes, in buffers that belong
//! to an entry and stay with it when it is free, for the next message that fits.
//!
//! | word | set by | meaning |
//! | --- | --- | --- |
//! | `again` | the creator | how often a message may be handed out again after its first time |
//! | `count` | a consumer | entries of the table in use |
//! | `end` | a consumer | where the next buffer starts |
//! | `lost` | whoever holds the get lock | messages that nobody is going to do |
//! | `burial`, `lost then` | whoever holds the get lock | the entry, plus one, that is being counted lost, and what `lost` is afterwards |
//! | `returned` | who gives a claim back | 1: some entry may be returned |
//! | `joiners` | a joiner | 1: somebody sleeps until the queue is empty |
//! | `swept` | who sweeps | when owners were last looked after, in milliseconds |
//!
//! All but giving back, settling and the last three words is done under the get lock. What a death under it leaves half-done:
//!
//! | died | leaves | mended by |
//! | --- | --- | --- |
//! | while a buffer or a block is made | memory that the table does not know | the next one, who makes the same; or the next trim |
//! | between a claim and the take | a claim to a message still in the queue | [`mend`](Claims::mend), which frees it |
//! | while a message is counted lost | `burial` set | [`mend`](Claims::mend), which does the whole again: it stores totals, it does not add |

use crate::raw::claim::{self, State, Words, is_unfinished};
use mp_core::deadline::SLICE;
use mp_core::{Encoding, Identity, park};
use mp_shm::{Format, Growable, HEADER, Mapping, WINDOW};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) const FORMAT: Format = Format::plain(*b"CLMS", 1);

const AGAIN: usize = HEADER;
const COUNT: usize = HEADER + 8;
const END: usize = HEADER + 16;
const LOST: usize = HEADER + 24;
const BURIAL: usize = HEADER + 32;
const LOST_THEN: usize = HEADER + 40;
const RETURNED: usize = HEADER + 48;
const JOINERS: usize = HEADER + 52;
const SWEPT: usize = HEADER + 56;
pub(crate) const FIXED: usize = 64;

const ENTRY: usize = 64;
const PER_BLOCK: u64 = WINDOW / ENTRY as u64;
/// At most so many claims at once: half a million.
const BLOCKS: u64 = 512;

// Words of an entry.
const TICKET: usize = 0;
const OWNER: usize = 8;
const WAITED: usize = 16;
const DELIVERIES: usize = 20;
const NUMBER: usize = 24;
const KIND: usize = 32;
const LENGTH: usize = 40;
const PLACE: usize = 48;
const CAPACITY: usize = 56;

/// Marks beside the encoding in `KIND`: the bytes are not kept, or its consumer said that it is not to be handed out again.
const NOT_AGAIN: u64 = 1 << 8;

const SMALLEST: u64 = 64;
/// Buffers beyond this are given back when nothing is claimed.
const IDLE_KEEPS: u64 = 1 << 20;
/// Windows that one process keeps mapped.
const MAPPED: usize = 256;

/// A claim as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    slot: u64,
    ticket: u64,
    number: u64,
    pub(crate) deliveries: u32,
}

/// What this process claimed and settles in order, by number.
type Own = Mutex<BTreeMap<u64, Claimed>>;

#[derive(Debug)]
pub(crate) struct Claims {
    memory: Growable,
    blocks: Box<[OnceLock<Mapping>]>,
    windows: Mutex<HashMap<u64, Arc<Mapping>>>,
    own: Arc<Own>,
}

/// One entry of the table.
struct Entry<'a> {
    map: &'a Mapping,
    at: usize,
}

impl<'a> Entry<'a> {
    fn word(&self, offset: usize) -> &'a AtomicU64 {
        self.map.atomic_u64(self.at + offset)
    }

    fn small(&self, offset: usize) -> &'a AtomicU32 {
        self.map.atomic_u32(self.at + offset)
    }

    fn words(&self) -> Words<'a> {
        Words { ticket: self.word(TICKET), owner: self.word(OWNER), waited: self.small(WAITED) }
    }
}

impl Claims {
    pub(crate) fn create(again: u32) -> io::Result<Claims> {
        let memory = Growable::create(FORMAT, FIXED)?;
        memory.fixed().atomic_u64(AGAIN).store(again.into(), Relaxed);
        Ok(Claims::open(memory))
    }

    pub(crate) fn open(memory: Growable) -> Claims {
        let own = own_of(&memory);
        let blocks = (0..BLOCKS).map(|_| OnceLock::new()).collect();
        Claims { memory, blocks, windows: Mutex::default(), own }
    }

    pub(crate) fn memory(&self) -> &Growable {
        &self.memory
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.memory.fixed().atomic_u64(at)
    }

    fn returned(&self) -> &AtomicU32 {
        self.memory.fixed().atomic_u32(RETURNED)
    }

    /// One while a joiner sleeps until the queue is empty.
    pub(crate) fn joiners(&self) -> &AtomicU32 {
        self.memory.fixed().atomic_u32(JOINERS)
    }

    /// How many messages nobody is going to do.
    pub(crate) fn lost(&self) -> u64 {
        self.word(LOST).load(Relaxed)
    }

    fn again(&self) -> u64 {
        self.word(AGAIN).load(Relaxed)
    }

    fn count(&self) -> u64 {
        self.word(COUNT).load(Acquire).min(BLOCKS * PER_BLOCK)
    }

    fn arena(&self) -> u64 {
        self.memory.first_window() + BLOCKS * WINDOW
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than the blocks, less than a block")]
    fn entry(&self, slot: u64) -> io::Result<Entry<'_>> {
        let (block, at) = ((slot / PER_BLOCK) as usize, (slot % PER_BLOCK) as usize * ENTRY);
        let place = self.blocks.get(block).ok_or_else(|| invalid("a claim outside of the table"))?;
        if place.get().is_none() {
            let offset = self.memory.first_window() + block as u64 * WINDOW;
            let map = self.memory.window(offset, WINDOW as usize)?;
            // Another thread may have been faster; its mapping is as good.
            let _ = place.set(map);
        }
        let map = place.get().ok_or_else(|| invalid("a block that is not mapped"))?;
        Ok(Entry { map, at })
    }

    fn entries(&self) -> impl Iterator<Item = (u64, io::Result<Entry<'_>>)> {
        (0..self.count()).map(|slot| (slot, self.entry(slot)))
    }

    /// Claims message `number`, which is about to be taken; its bytes are kept, unless it may not be handed out again.
    pub(crate) fn record(
        &self,
        number: u64,
        encoding: Encoding,
        handles: bool,
        bytes: &[u8],
    ) -> io::Result<Claimed> {
        let keep = self.again() > 0 && !handles;
        let wanted = if keep { bytes.len() as u64 } else { 0 };
        let slot = self.free_slot(wanted)?;
        let entry = self.entry(slot)?;
        if wanted > 0 {
            self.make_room(&entry, wanted)?;
            let place = entry.word(PLACE).load(Relaxed);
            self.with_window(place, wanted, |map, at| map.copy_in(at, bytes))?;
        }
        let mark = if keep { 0 } else { NOT_AGAIN };
        entry.word(KIND).store(u64::from(encoding.0) | mark, Relaxed);
        entry.word(LENGTH).store(wanted, Relaxed);
        entry.word(NUMBER).store(number, Relaxed);
        Ok(self.claim(slot, &entry, number, 1))
    }

    fn claim(&self, slot: u64, entry: &Entry<'_>, number: u64, deliveries: u32) -> Claimed {
        let ticket = claim::ticket(number, deliveries);
        entry.small(DELIVERIES).store(deliveries, Relaxed);
        entry.words().claim(Identity::current().pack(), ticket);
        Claimed { slot, ticket, number, deliveries }
    }

    /// A free entry, if possible one whose buffer holds `wanted` bytes; the table grows when none is free.
    fn free_slot(&self, wanted: u64) -> io::Result<u64> {
        thread_local! {
            static HINT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        let count = self.count();
        let hint = HINT.get().min(count);
        let (mut fallback, mut looks) = (None, 0);
        for slot in (hint..count).chain(0..hint) {
            let entry = self.entry(slot)?;
            if entry.words().ticket() == claim::FREE {
                looks += 1;
                if entry.word(CAPACITY).load(Relaxed) >= wanted || looks > 8 {
                    HINT.set(slot);
                    return Ok(slot);
                }
                fallback.get_or_insert(slot);
            }
        }
        let slot = fallback.map_or_else(|| self.grow(), Ok)?;
        HINT.set(slot);
        Ok(slot)
    }

    /// Adds entries, at least by half; returns the first of them.
    fn grow(&self) -> io::Result<u64> {
        let count = self.count();
        let after = (count + (count / 2).max(PER_BLOCK / 8)).min(BLOCKS * PER_BLOCK);
        if after == count {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "half a million claims are not done yet",
            ));
        }
        let (first, last) = (count.div_ceil(PER_BLOCK), after.div_ceil(PER_BLOCK));
        if last > first {
            let start = self.memory.first_window() + first * WINDOW;
            self.memory.allocate(start, (last - first) * WINDOW)?;
        }
        for slot in count..after {
            let entry = self.entry(slot)?;
            [TICKET, PLACE, CAPACITY].iter().for_each(|word| entry.word(*word).store(0, Relaxed));
        }
        self.word(COUNT).store(after, Release);
        Ok(count)
    }

    /// Gives `entry` a buffer for `wanted` bytes.
    fn make_room(&self, entry: &Entry<'_>, wanted: u64) -> io::Result<()> {
        let capacity = entry.word(CAPACITY).load(Relaxed);
        if capacity >= wanted {
            // Its pages were given back when it was last settled.
            let large = capacity >= WINDOW;
            return if large {
                self.memory.allocate(entry.word(PLACE).load(Relaxed), wanted)
            } else {
                Ok(())
            };
        }
        let capacity = if wanted <= WINDOW {
            wanted.next_power_of_two().max(SMALLEST)
        } else {
            wanted.next_multiple_of(WINDOW)
        };
        let end = self.word(END).load(Relaxed).max(self.arena());
        // A small one lies within one window, since it is aligned to its own size.
        let place = end.next_multiple_of(capacity.min(WINDOW));
        let (known, needed) = (end.next_multiple_of(WINDOW), (place + capacity).next_multiple_of(WINDOW));
        if needed > known {
            self.memory.allocate(known, needed - known)?;
        }
        self.word(END).store(place + capacity, Relaxed);
        entry.word(PLACE).store(place, Relaxed);
        entry.word(CAPACITY).store(capacity, Relaxed);
        Ok(())
    }

    /// Runs `body` with the mapping in which `length` bytes at `place` lie, and where in it they do.
    fn with_window<R>(
        &self,
        place: u64,
        length: u64,
        body: impl FnOnce(&Mapping, usize) -> R,
    ) -> io::Result<R> {
        let start = place / WINDOW * WINDOW;
        let end = place.saturating_add(length).checked_next_multiple_of(WINDOW);
        let size = end.and_then(|end| end.checked_sub(start)).ok_or_else(|| invalid("bytes of no length"))?;
        if place < self.arena() {
            return Err(invalid("the bytes of a claim lie in the table"));
        }
        let to_size = |size: u64| usize::try_from(size).map_err(|_| invalid("bytes longer than memory"));
        let at = to_size(place - start)?;
        if size != WINDOW {
            return Ok(body(&self.memory.window(start, to_size(size)?)?, at));
        }
        let map = {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            if windows.len() >= MAPPED {
                windows.clear();
            }
            match windows.get(&start) {
                Some(map) => Arc::clone(map),
                None => {
                    let map = Arc::new(self.memory.window(start, to_size(size)?)?);
                    windows.insert(start, Arc::clone(&map));
                    map
                }
            }
        };
        Ok(body(&map, at))
    }

    /// Whether some message may wait to be handed out again.
    #[inline]
    pub(crate) fn may_have_returned(&self) -> bool {
        self.returned().load(Acquire) != 0
    }

    /// Under the get lock: claims the oldest message that was given back, its bytes appended to `bytes`.
    pub(crate) fn take_returned(&self, bytes: &mut Vec<u8>) -> io::Result<Option<(Claimed, Encoding)>> {
        if !self.may_have_returned() {
            return Ok(None);
        }
        // Before the look: who gives one back from here on sets it again.
        self.returned().store(0, Relaxed);
        let (mut oldest, mut more): (Option<(u64, u64)>, bool) = (None, false);
        for (slot, entry) in self.entries() {
            let entry = entry?;
            if claim::state(entry.words().ticket()) != State::Returned || self.bury_if_over(slot, &entry) {
                continue;
            }
            let number = entry.word(NUMBER).load(Relaxed);
            more |= oldest.is_some();
            if oldest.is_none_or(|(known, _)| number < known) {
                oldest = Some((number, slot));
            }
        }
        if more {
            self.returned().store(1, Release);
        }
        let Some((number, slot)) = oldest else { return Ok(None) };
        let entry = self.entry(slot)?;
        let (place, length) = (entry.word(PLACE).load(Relaxed), entry.word(LENGTH).load(Relaxed));
        let copied = match usize::try_from(length) {
            Ok(0) => Ok(()),
            Ok(size) => self.with_window(place, length, |map, at| map.append_to(at, size, bytes)),
            Err(_) => Err(invalid("bytes longer than memory")),
        };
        copied.inspect_err(|_| self.returned().store(1, Release))?;
        let deliveries = entry.small(DELIVERIES).load(Relaxed).saturating_add(1);
        let [encoding, ..] = entry.word(KIND).load(Relaxed).to_le_bytes();
        Ok(Some((self.claim(slot, &entry, number, deliveries), Encoding(encoding))))
    }

    /// Under the get lock: counts a returned message lost when it may not be handed out again.
    fn bury_if_over(&self, slot: u64, entry: &Entry<'_>) -> bool {
        let mark = entry.word(KIND).load(Relaxed) & NOT_AGAIN;
        if mark == 0 && u64::from(entry.small(DELIVERIES).load(Relaxed)) <= self.again() {
            return false;
        }
        self.word(LOST_THEN).store(self.lost() + 1, Relaxed);
        // Release, here and below: not before what stands above it, wherever a death falls.
        self.word(BURIAL).store(slot + 1, Release);
        mp_core::step!("queue.lost", 1);
        self.finish_burial();
        true
    }

    /// Counts the message lost whose burial was begun; may itself be begun again.
    fn finish_burial(&self) {
        let Some(slot) = self.word(BURIAL).load(Relaxed).checked_sub(1) else { return };
        self.word(LOST).store(self.word(LOST_THEN).load(Relaxed), Relaxed);
        mp_core::step!("queue.lost", 2);
        if let Ok(entry) = self.entry(slot) {
            let ticket = entry.words().ticket();
            if claim::state(ticket) == State::Returned {
                entry.words().bury(ticket);
                mp_core::step!("queue.lost", 3);
            }
            if claim::state(entry.words().ticket()) == State::Settling {
                self.finish(&entry);
            }
        }
        self.word(BURIAL).store(0, Release);
    }

    /// The second half of settling.
    fn finish(&self, entry: &Entry<'_>) {
        let words = entry.words();
        words.finish(park::heavy_barrier, || _ = park::wake(words.waited, u32::MAX), || self.release(entry));
    }

    /// Gives the pages of a large buffer back, and keeps the place.
    fn release(&self, entry: &Entry<'_>) {
        let capacity = entry.word(CAPACITY).load(Relaxed);
        let place = entry.word(PLACE).load(Relaxed);
        if capacity >= WINDOW && place >= self.arena() {
            // Failing to give memory back costs memory, nothing else.
            let _ = self.memory.give_back(place, capacity);
        }
    }

    /// The message is done; false when it was not claimed by this process, or is settled already.
    pub(crate) fn settle(&self, claimed: Claimed, barrier: impl FnOnce()) -> bool {
        let Ok(entry) = self.entry(claimed.slot) else { return false };
        let (words, me) = (entry.words(), Identity::current().pack());
        let wake = || _ = park::wake(words.waited, u32::MAX);
        words.settle(me, claimed.ticket, barrier, wake, || self.release(&entry))
    }

    /// The message is to be handed out again, or with `lost` never; false when it is not this process's.
    pub(crate) fn give_back(&self, claimed: Claimed, lost: bool) -> bool {
        let Ok(entry) = self.entry(claimed.slot) else { return false };
        let words = entry.words();
        // A forked child has copies of its parent's claims.
        if words.owner.load(Relaxed) != Identity::current().pack() || words.ticket() != claimed.ticket {
            return false;
        }
        if lost {
            entry.word(KIND).fetch_or(NOT_AGAIN, Relaxed);
        }
        self.return_it(&entry, claimed.ticket)
    }

    fn return_it(&self, entry: &Entry<'_>, ticket: u64) -> bool {
        // Before it is so, for a death in between; and after, for somebody who looked in between.
        self.returned().store(1, Release);
        mp_core::step!("queue.return", 1);
        let given = entry.words().give_back(ticket);
        mp_core::step!("queue.return", 2);
        self.returned().store(1, Release);
        given
    }

    /// Whether nobody has looked after the owners for a slice; then the caller is the one to do it.
    pub(crate) fn sweep_is_due(&self) -> bool {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec.cast_unsigned().wrapping_mul(1000) + now.tv_nsec.cast_unsigned() / 1_000_000;
        let then = self.word(SWEPT).load(Relaxed);
        let slice = u64::try_from(SLICE.as_millis()).unwrap_or(100);
        now.wrapping_sub(then) >= slice
            && self.word(SWEPT).compare_exchange(then, now, Relaxed, Relaxed).is_ok()
    }

    /// Under the get lock: what the dead had claimed is returned, and what may not be handed out again is counted lost. True when
    /// something waits to be handed out again.
    pub(crate) fn sweep(&self) -> io::Result<bool> {
        let mut known: Vec<(u64, bool)> = Vec::new();
        let mut some = false;
        for (slot, entry) in self.entries() {
            let entry = entry?;
            let ticket = entry.words().ticket();
            let state = claim::state(ticket);
            if matches!(state, State::Claimed | State::Settling) && !lives(&mut known, entry.words().owner) {
                match state {
                    State::Settling => self.finish(&entry),
                    _ => _ = self.return_it(&entry, ticket),
                }
            }
            if claim::state(entry.words().ticket()) == State::Returned && !self.bury_if_over(slot, &entry) {
                // Its giver may have died before it said so.
                self.returned().store(1, Release);
                some = true;
            }
        }
        Ok(some)
    }

    /// Under the get lock, after a death under it: claims whose takes were not committed are none. `taken` is the number of the next
    /// message. May itself be begun again.
    pub(crate) fn mend(&self, taken: u64) {
        self.finish_burial();
        for (_, entry) in self.entries() {
            let Ok(entry) = entry else { continue };
            let (ticket, number) = (entry.words().ticket(), entry.word(NUMBER).load(Relaxed));
            let void = number.wrapping_sub(taken).cast_signed() >= 0;
            if void && claim::state(ticket) == State::Claimed && entry.words().bury(ticket) {
                self.finish(&entry);
            }
        }
    }

    /// Under the get lock: an unfinished claim, looking from `hint` on; the word to sleep on is announced.
    pub(crate) fn unfinished_slot(&self, hint: u64) -> io::Result<Option<u64>> {
        let count = self.count();
        let hint = hint.min(count);
        for slot in (hint..count).chain(0..hint) {
            let words = self.entry(slot)?.words();
            if is_unfinished(words.ticket()) {
                words.waited.store(1, Relaxed);
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Sleeps until the claim in `slot`, which was announced, is settled or the slice is over.
    pub(crate) fn sleep_on(&self, slot: u64, slice: std::time::Duration) -> io::Result<()> {
        let words = self.entry(slot)?.words();
        if words.announce_sleep(park::heavy_barrier) {
            park::sleep(words.waited, 1, slice);
        }
        Ok(())
    }

    /// How many claims are unfinished, and how many of these wait to be handed out again.
    pub(crate) fn unfinished(&self) -> (u64, u64) {
        let states = self.entries().filter_map(|(_, entry)| Some(claim::state(entry.ok()?.words().ticket())));
        states.fold((0, 0), |(all, returned), state| match state {
            State::Claimed => (all + 1, returned),
            State::Returned => (all + 1, returned + 1),
            State::Free | State::Settling => (all, returned),
        })
    }

    /// Under the get lock: when nothing is claimed, gives the buffers back.
    pub(crate) fn trim(&self) {
        let (arena, end) = (self.arena(), self.word(END).load(Relaxed));
        if end < arena + IDLE_KEEPS {
            return;
        }
        let all_free =
            self.entries().all(|(_, entry)| entry.is_ok_and(|entry| entry.words().ticket() == claim::FREE));
        if all_free {
            self.word(COUNT).store(0, Release);
            self.word(END).store(arena, Relaxed);
            // Failing to give memory back costs memory, nothing else.
            let _ = self.memory.give_back(arena, end.next_multiple_of(WINDOW) - arena);
            self.windows.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// This process settles `claimed` in its turn.
    pub(crate) fn keep(&self, claimed: Claimed) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(claimed.number, claimed);
    }

    /// The oldest claim that this process keeps.
    pub(crate) fn oldest_kept(&self) -> Option<Claimed> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.pop_first().map(|(_, claimed)| claimed)
    }
}

/// Whether the owner lives; each is asked after once in a sweep.
fn lives(known: &mut Vec<(u64, bool)>, owner: &AtomicU64) -> bool {
    let owner = owner.load(Relaxed);
    if let Some((_, lives)) = known.iter().find(|(who, _)| *who == owner) {
        return *lives;
    }
    let lives = Identity::packed_is_alive(owner);
    known.push((owner, lives));
    lives
}

/// What this process keeps of the queue with this memory: one list, however often it was opened here.
fn own_of(memory: &Growable) -> Arc<Own> {
    static ALL: Mutex<BTreeMap<u64, std::sync::Weak<Own>>> = Mutex::new(BTreeMap::new());
    let Ok(stat) = rustix::fs::fstat(memory) else { return Arc::default() };
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, own| own.strong_count() > 0);
    if let Some(own) = all.get(&stat.st_ino).and_then(std::sync::Weak::upgrade) {
        return own;
    }
    let own = Arc::default();
    all.insert(stat.st_ino, Arc::downgrade(&own));
    own
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
