//! The private line between the pool and one worker: two rings, a socket, and the worker's control block in one memory.
//!
//! Nothing here waits except [`Line::next`] and [`Line::write_all`], which only the worker calls. The pool's side tries, and polls the
//! socket together with the worker's pidfd: it is a bell for messages and for space, and hangs up with the other side.
//! Neither side's sleep needs slices: the other end has one holder, whose death is seen in the same poll.

use crate::control::{self, Control};
use mp_core::park::{self, Spin};
use mp_core::{Encoding, Handle};
use mp_pipe::packet::{self, Inbox};
use mp_pipe::ring::{Direction, Growth, ReaderCache, Record, Ring, Table, WriteError, WriterCache};
use mp_process::backtrace::{self, Crash};
use mp_shm::{Format, Growable, HEADER};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

const FORMAT: Format = Format::plain(*b"POOL", 1);
/// Where the control block is in the line's memory, behind the header.
pub(crate) const CONTROL: usize = 2 * Table::Short.fixed();
/// Where a worker that crashes writes where it was.
const CRASH: usize = CONTROL + control::SIZE;
const FIXED: usize = CRASH + 8 * backtrace::WORDS;

/// Who sleeps wants to be rung for each record.
pub(crate) const EAGER: u32 = u32::MAX;

/// One side's view of the line.
#[derive(Debug)]
pub(crate) struct Line {
    socket: Arc<OwnedFd>,
    memory: Growable,
    out: Ring,
    written: WriterCache,
    back: Ring,
    read: ReaderCache,
    inbox: Inbox,
    spin: Spin,
    /// How many records the other side had taken when one was refused for want of room.
    refused: Option<u64>,
}

/// The worker's end on its way to the worker.
#[derive(Debug)]
pub(crate) struct LineEnd {
    memory: Growable,
    socket: Handle,
}

/// One record, without its bytes.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: u8,
    pub(crate) handles: io::Result<Vec<OwnedFd>>,
}

/// The other side is gone, and everything it sent has been read.
#[derive(Debug)]
pub(crate) struct Gone;

impl Line {
    /// The pool's side, and the worker's on its way.
    pub(crate) fn pair() -> io::Result<(Line, LineEnd)> {
        let memory = Growable::create(FORMAT, FIXED)?;
        let (here, there) = packet::pair()?;
        let line = Line::assemble(memory.clone(), Arc::new(here), [Direction::There, Direction::Back]);
        Ok((line, LineEnd { memory, socket: Handle::from(there) }))
    }

    fn assemble(memory: Growable, socket: Arc<OwnedFd>, [out, back]: [Direction; 2]) -> Line {
        let at = |direction| match direction {
            Direction::There => HEADER,
            Direction::Back => HEADER + Table::Short.fixed(),
        };
        let ring = |direction| Ring::new(memory.clone(), at(direction), direction, Table::Short);
        let (out, back) = (ring(out), ring(back));
        out.join();
        back.join();
        let (written, read) = (WriterCache::default(), ReaderCache::default());
        Line {
            socket,
            memory,
            out,
            written,
            back,
            read,
            inbox: Inbox::default(),
            spin: Spin::default(),
            refused: None,
        }
    }

    /// The memory of the control block, and of everything else.
    pub(crate) fn memory(&self) -> &Growable {
        &self.memory
    }

    pub(crate) fn control(&self) -> Control<'_> {
        Control::new(self.memory.fixed(), HEADER + CONTROL)
    }

    /// Where the worker crashed, if it did; read it when the worker is dead.
    pub(crate) fn crash(&self) -> Option<Crash> {
        Crash::read(|index| crash_word(&self.memory, index))
    }

    /// Publishes a record of two parts, if there is room; nobody is woken before [`wake`](Line::wake).
    pub(crate) fn try_write(
        &mut self,
        kind: u8,
        [bytes, behind]: [&[u8]; 2],
        handles: &[BorrowedFd<'_>],
    ) -> Result<bool, WriteError> {
        let count = u16::try_from(handles.len()).map_err(|_| WriteError::TooLong)?;
        let record = Record { encoding: Encoding(kind), bytes, handles: count };
        let send = |number| packet::send_handles(&self.socket, number, handles);
        let taken = self.out.taken();
        self.refused = None;
        match self.out.write_parts(&mut self.written, Growth::WhenEmpty, u64::MAX, record, behind, send) {
            Ok(()) => Ok(true),
            Err(WriteError::Full) => {
                self.refused = Some(taken);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Wakes the other side if it sleeps, after something was published for it; one that does not mind waiting for more only when
    /// little is left here to be read.
    pub(crate) fn wake(&self) {
        self.out.barrier_before_look();
        let below = self.out.reader_asleep().load(Relaxed);
        if below == EAGER || self.back.len() < below.into() {
            self.ring();
        }
    }

    /// Wakes the other side if it sleeps, however little it minds waiting.
    fn ring(&self) {
        if self.out.reader_asleep().swap(0, AcqRel) != 0 {
            // False when it is gone, which its pidfd tells too.
            let _ = packet::ring_bell(&self.socket);
        }
    }

    /// The next record, if there is one: its bytes are appended to `bytes`.
    pub(crate) fn try_read(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<Incoming>> {
        let Some(head) = self.back.peek(&mut self.read)? else { return Ok(None) };
        self.back.copy_to(&self.read, &head, bytes)?;
        self.back.commit(&mut self.read, &head);
        self.back.barrier_before_look();
        if self.back.writer_asleep().load(Relaxed) != 0 {
            self.give_space();
        }
        let handles = match head.handles {
            0 => Ok(Vec::new()),
            count => self.inbox.take(&self.socket, head.sequence, count.into()),
        };
        Ok(Some(Incoming { kind: head.encoding.0, handles }))
    }

    pub(crate) fn has_message(&self) -> bool {
        !self.back.is_empty()
    }

    /// Whether something was taken since a record was refused for want of room.
    pub(crate) fn has_room_since_refused(&self) -> bool {
        self.refused.is_some_and(|taken| self.out.taken() != taken)
    }

    /// How many records the other side has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.out.taken()
    }

    /// Worker: the number of the record that it publishes next.
    pub(crate) fn next_number(&self) -> u64 {
        self.out.published().wrapping_add(1)
    }

    /// Pool: what a dead worker was about to publish, once everything that it did publish was read.
    pub(crate) fn left_on_slate(&self) -> Option<control::Slate> {
        self.control().slate(self.back.published().wrapping_add(1))
    }

    /// Whether the other side has read all that was sent to it.
    pub(crate) fn is_read_out(&self) -> bool {
        self.out.is_empty()
    }

    /// Tells a writer that sleeps for space once the ring is empty or a good part of it is free.
    #[cold]
    fn give_space(&mut self) {
        let free = self.back.free_bytes(&self.read);
        if !self.back.is_empty() && free < self.read.region_size() / 4 {
            return;
        }
        self.back.give_all_space(&mut self.read);
        if self.back.writer_asleep().swap(0, AcqRel) != 0 {
            let _ = packet::ring_bell(&self.socket);
        }
    }

    /// First half of going to sleep: asks to be rung for. A [`park::heavy_barrier`] and a last look must follow.
    /// The other side then rings for a record when fewer than `below` wait to be read there; [`EAGER`] is for each.
    pub(crate) fn announce_sleep(&mut self, wants_space: bool, below: u32) -> io::Result<()> {
        self.inbox.drain(&self.socket)?;
        self.back.give_all_space(&mut self.read);
        self.back.release_left_regions(&mut self.read)?;
        if self.back.writer_asleep().load(Relaxed) != 0 {
            self.give_space();
        }
        self.back.reader_asleep().store(below, Relaxed);
        self.out.writer_asleep().store(u32::from(wants_space), Relaxed);
        Ok(())
    }

    /// Whether this side would be rung for what the other publishes.
    pub(crate) fn is_announced(&self) -> bool {
        self.back.reader_asleep().load(Relaxed) != 0
    }

    /// Awake again.
    pub(crate) fn announce_awake(&self) {
        self.back.reader_asleep().store(0, Relaxed);
        self.out.writer_asleep().store(0, Relaxed);
    }

    /// Worker: waits for the next record.
    pub(crate) fn next(&mut self, bytes: &mut Vec<u8>) -> io::Result<Result<Incoming, Gone>> {
        let mut gone = false;
        loop {
            if let Some(incoming) = self.try_read(bytes)? {
                return Ok(Ok(incoming));
            }
            if gone {
                return Ok(Err(Gone));
            }
            let peer = self.back.writer_core().load(Relaxed).wrapping_sub(1);
            let back = &self.back;
            if self.spin.until(peer, || !back.is_empty()) {
                continue;
            }
            gone = self.sleep(false)?;
        }
    }

    /// Worker: writes a record, waiting for room, and wakes the pool when `wake` says so.
    pub(crate) fn write_all(
        &mut self,
        kind: u8,
        parts: [&[u8]; 2],
        handles: &[BorrowedFd<'_>],
        wake: bool,
    ) -> Result<(), WriteError> {
        while !self.try_write(kind, parts, handles)? {
            self.wake();
            if self.sleep(true)? {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
        }
        if wake {
            self.wake();
        }
        Ok(())
    }

    /// Sleeps until the pool rings or is gone; true when it is gone.
    fn sleep(&mut self, for_space: bool) -> io::Result<bool> {
        // Whoever waits here for a while has nothing more to do: what it has said is all that comes.
        if !self.out.is_empty() {
            self.ring();
        }
        self.announce_sleep(for_space, EAGER)?;
        park::heavy_barrier();
        let idle = if for_space { !self.has_room_since_refused() } else { self.back.is_empty() };
        let mut polled = [PollFd::new(&*self.socket, PollFlags::IN)];
        if idle {
            park::poll_once(&mut polled, None)?;
        }
        let gone = polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        self.announce_awake();
        Ok(gone)
    }
}

/// A word of what a worker leaves when it crashes.
pub(crate) fn crash_word(memory: &Growable, index: usize) -> &AtomicU64 {
    memory.fixed().atomic_u64(HEADER + CRASH + 8 * (index % backtrace::WORDS))
}

impl LineEnd {
    /// The worker's side.
    pub(crate) fn open(self) -> Line {
        let directions = [Direction::Back, Direction::There];
        Line::assemble(self.memory, self.socket.into_shared(), directions)
    }
}

impl Serialize for LineEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.memory, &self.socket).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LineEnd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LineEnd, D::Error> {
        let (memory, socket) = <(Memory, Handle)>::deserialize(deserializer)?;
        Ok(LineEnd { memory: memory.0, socket })
    }
}

struct Memory(Growable);

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Memory, D::Error> {
        Growable::deserialize_as(deserializer, FORMAT, FIXED).map(Memory)
    }
}

impl Line {
    /// The bell, for a poll that outlives a borrow of the line.
    pub(crate) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// The core on which the other side last wrote; [`u32::MAX`] where unknown.
    pub(crate) fn peer_core(&self) -> u32 {
        self.back.writer_core().load(Relaxed).wrapping_sub(1)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
