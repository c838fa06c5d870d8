//! Records of the child's log, on their way to this process's logger.
//!
//! They go through a socket that keeps them apart. The child never waits for this process: what does not fit is kept in the child, up
//! to [`KEPT`] bytes, and goes first when there is room again; what does not fit there is counted, and the count is a record of its
//! own. At a normal end the child waits for what it has kept to go, while somebody reads it.
//!
//! | dies | then |
//! | --- | --- |
//! | the child | what it has sent is in the socket, and is read; what it had kept is lost |
//! | this process | the child drops its records |

use crate::reader::{self, Source};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mp_core::{Deadline, Handle, park};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;
use std::{io, process};

/// How many bytes of records a child keeps that the socket has no room for.
const KEPT: usize = 1 << 20;
/// The longest text of a record; the rest is cut off.
const LONGEST: usize = 32 << 10;
/// How long the end of a child waits for a parent that does not read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many records are taken before others have their turn.
const TURN: usize = 4096;

/// A record as it crosses.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    /// As [`Level`] counts: 1 is an error.
    level: u8,
    target: String,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    text: String,
}

/// The child's end, and which records are wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    socket: Handle,
    most: u8,
}

/// This process's end: what comes through it goes to this process's logger.
#[derive(Debug)]
pub(crate) struct LogLine(Arc<Line>);

#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// The child's name, in front of each text.
    name: String,
    ended: AtomicBool,
    /// Held by who reads, so that records stay in order.
    reading: Mutex<()>,
    /// Who that is.
    reader: Mutex<Option<ThreadId>>,
}

/// A line from a child called `name`.
pub(crate) fn open(name: &str) -> io::Result<(LogEnd, LogLine)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let above = crate::sys::process::above_streams;
    let line = Line {
        socket: above(ours)?,
        name: name.to_owned(),
        ended: AtomicBool::new(false),
        reading: Mutex::new(()),
        reader: Mutex::new(None),
    };
    let line = Arc::new(line);
    reader::enter(Arc::<Line>::clone(&line))?;
    let end = LogEnd { socket: Handle::from(above(theirs)?), most: log::max_level() as u8 };
    Ok((end, LogLine(line)))
}

impl LogLine {
    /// Gives what has come to the logger, in the calling thread.
    pub(crate) fn catch_up(&self) {
        self.0.read(&mut vec![0; reader::CHUNK]);
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        // The handle goes only after the child: nothing more comes, but for what is there.
        self.catch_up();
        if !self.0.ended.swap(true, Ordering::Relaxed) {
            reader::look_again();
        }
    }
}

impl Source for Line {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn read(&self, chunk: &mut [u8]) {
        // A logger that joins the process whose records it is given comes back here.
        let me = thread::current().id();
        if *self.reader.lock().unwrap_or_else(PoisonError::into_inner) == Some(me) {
            return;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(me);
        self.take(chunk);
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Line {
    fn take(&self, chunk: &mut [u8]) {
        for _ in 0..TURN {
            match rustix::net::recv(&self.socket, &mut *chunk, RecvFlags::empty()) {
                Ok((0, _)) => return self.ended.store(true, Ordering::Relaxed),
                Ok((length, _)) => self.log(&chunk[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return self.ended.store(true, Ordering::Relaxed),
            }
        }
    }

    /// A logger that panics harms nobody else.
    fn log(&self, bytes: &[u8]) {
        let Ok(sent) = decode(bytes) else { return };
        let Some(level) = Level::iter().nth(usize::from(sent.level).saturating_sub(1)) else { return };
        let name = &self.name;
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            let metadata = Metadata::builder().level(level).target(&sent.target).build();
            if level > log::max_level() || !log::logger().enabled(&metadata) {
                return;
            }
            let mut record = Record::builder();
            record.metadata(metadata).module_path(sent.module.as_deref());
            record.file(sent.file.as_deref()).line(sent.line);
            log::logger().log(&record.args(format_args!("[{name}] {}", sent.text)).build());
        }));
    }
}

fn encode(sent: &Sent) -> Vec<u8> {
    let mut scratch = Vec::new();
    mp_core::wire::encode(sent, &mut scratch).map(|message| message.bytes.to_vec()).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Result<Sent, mp_core::DecodeError> {
    mp_core::wire::decode(mp_core::Encoding::POSTCARD, bytes.into(), Vec::new())
}

/// The child's logger.
struct Forward {
    socket: Arc<OwnedFd>,
    /// A forked copy of this process has no line of its own.
    owner: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// The parent is gone.
    closed: bool,
}

/// Makes the line this process's logger. One that is there already, as in a forked child, stays.
pub(crate) fn install(end: LogEnd) {
    let most = LevelFilter::iter().nth(usize::from(end.most)).unwrap_or(LevelFilter::Off);
    let forward =
        Forward { socket: end.socket.into_shared(), owner: process::id(), waiting: Mutex::default() };
    if log::set_boxed_logger(Box::new(forward)).is_ok() {
        log::set_max_level(most);
        // Also where the function ends the process itself.
        crate::sys::process::at_exit(flush);
    }
}

extern "C" fn flush() {
    log::logger().flush();
}

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || process::id() != self.owner {
            return;
        }
        // Made before the lock: what is formatted may log itself.
        let bytes = encode(&Sent {
            level: record.level() as u8,
            target: record.target().to_owned(),
            module: record.module_path().map(str::to_owned),
            file: record.file().map(str::to_owned),
            line: record.line(),
            text: shortened(record.args().to_string()),
        });
        let mut waiting = self.waiting();
        self.send_waiting(&mut waiting);
        if !waiting.records.is_empty() || !self.send(&bytes, &mut waiting) {
            waiting.push(bytes);
        }
    }

    /// Waits until what is kept has gone, while somebody reads it.
    fn flush(&self) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            {
                let mut waiting = self.waiting();
                self.send_waiting(&mut waiting);
                if waiting.closed || waiting.records.is_empty() || process::id() != self.owner {
                    return;
                }
            }
            let mut polled = [PollFd::new(&*self.socket, PollFlags::OUT)];
            let slice = Some(deadline.slice(Duration::from_millis(100)));
            if deadline.passed() || park::poll_once(&mut polled, slice).is_err() {
                return;
            }
        }
    }
}

impl Forward {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when there is no room.
    fn send(&self, bytes: &[u8], waiting: &mut Waiting) -> bool {
        loop {
            return match rustix::net::send(&*self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => true,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN | Errno::NOBUFS) => false,
                Err(_) => {
                    waiting.closed = true;
                    true
                }
            };
        }
    }

    fn send_waiting(&self, waiting: &mut Waiting) {
        while let Some(bytes) = waiting.records.pop_front() {
            if !self.send(&bytes, waiting) {
                waiting.records.push_front(bytes);
                return;
            }
            waiting.bytes -= bytes.len();
        }
        if waiting.lost > 0 {
            let text = format!("{} records were lost: nobody read them in time", waiting.lost);
            let target = module_path!().to_owned();
            let level = Level::Warn as u8;
            let bytes = encode(&Sent { level, target, module: None, file: None, line: None, text });
            if self.send(&bytes, waiting) {
                waiting.lost = 0;
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, bytes: Vec<u8>) {
        if self.closed {
            return;
        }
        if self.bytes + bytes.len() > KEPT {
            self.lost += 1;
            return;
        }
        self.bytes += bytes.len();
        self.records.push_back(bytes);
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_crosses_and_a_long_one_is_cut() {
        let sent = Sent {
            level: 3,
            target: "target".into(),
            module: Some("module".into()),
            file: None,
            line: Some(7),
            text: "text".into(),
        };
        assert_eq!(decode(&encode(&sent)).unwrap(), sent);
        assert_eq!(shortened("é".repeat(LONGEST)).len(), LONGEST + '…'.len_utf8());
        assert_eq!(shortened("short".into()), "short");
    }
}
