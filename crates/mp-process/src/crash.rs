//! Where a process was when it crashed: written by itself in its last moment, read and symbolised by another.
//!
//! The words of a [`Log`] lie in memory that outlives the process. Addresses are written relative to the images in which they lie, so that
//! another process which has loaded the same images, elsewhere, finds the names. Nothing that is read from there is believed: the
//! process that wrote it was broken.

use crate::sys;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::{fs, io};

/// The most frames that are kept: those next to the fault.
pub(crate) const FRAMES: usize = 64;
/// The most images whose names are kept.
const IMAGES: usize = 8;
/// Words for an image's name; the first one is its length.
const NAME: usize = 31;

const STATE: usize = 0;
const MARK: usize = 1;
const ADDRESS: usize = 2;
const THREAD: usize = 3;
const COUNT: usize = 5;
const FRAME: usize = 6;
const IMAGE: usize = FRAME + 2 * FRAMES;

/// How many words a [`Log`] takes.
pub const WORDS: usize = IMAGE + IMAGES * (NAME + 1);

/// In the state word, beside the signal.
const DONE: u64 = 1 << 8;
const OVERFLOWED: u64 = 1 << 9;
const HAS_ADDRESS: u64 = 1 << 10;

/// A fault so near to the stack pointer is the stack's end.
const NEAR: usize = 64 << 10;

/// Where a crash is written to.
#[derive(Clone, Copy)]
pub struct Log {
    word: fn(usize) -> Option<&'static AtomicU64>,
    mark: fn() -> u64,
}

/// What the kernel says of a fault.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) signal: i32,
    /// Where it was, if it was one of memory or of an instruction, and nobody sent it.
    pub(crate) address: Option<usize>,
    pub(crate) sp: usize,
    pub(crate) thread: [u8; 16],
}

/// From now on a fault of this process (SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS) is written to the words that
/// `word` gives for numbers below [`WORDS`], and with it what `mark` gives then. Both are called in a handler of signals: they look
/// up and compute, nothing else. The process ends as it would have. Only the first call counts.
///
/// # Errors
///
/// Nothing is changed then: the system gives no timer or no memory for another stack.
pub fn watch(word: fn(usize) -> Option<&'static AtomicU64>, mark: fn() -> u64) -> io::Result<()> {
    sys::crash::watch(Log { word, mark })
}

// What follows here runs in the handler: no locks, no memory.
impl Log {
    fn store(&self, index: usize, value: u64) {
        if let Some(word) = (self.word)(index) {
            word.store(value, Relaxed);
        }
    }

    fn set_state(&self, state: u64) {
        if let Some(word) = (self.word)(STATE) {
            // Whoever sees it sees what was stored before; the process's death tells it, too.
            word.fetch_or(state, Release);
        }
    }

    pub(crate) fn begin(&self, fault: &Fault) {
        let Fault { signal, address, sp, thread } = fault;
        self.store(MARK, (self.mark)());
        self.store(ADDRESS, address.unwrap_or(0) as u64);
        let (first, second) = thread.split_at(8);
        for (index, half) in [first, second].into_iter().enumerate() {
            let bytes = half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.store(THREAD + index, bytes);
        }
        let overflowed =
            address.is_some_and(|address| *signal == libc::SIGSEGV && address.abs_diff(*sp) < NEAR);
        let overflowed = if overflowed { OVERFLOWED } else { 0 };
        let has_address = if address.is_some() { HAS_ADDRESS } else { 0 };
        self.set_state(u64::from(signal.unsigned_abs() & 0xff) | overflowed | has_address);
    }

    /// Absolute for now.
    pub(crate) fn frames(&self, frames: &[usize]) {
        for (index, at) in frames.iter().enumerate() {
            self.store(FRAME + 2 * index, *at as u64);
        }
        self.store(COUNT, frames.len() as u64);
    }

    pub(crate) fn images<'a>(&'a self, frames: &'a [usize]) -> Images<'a> {
        Images {
            log: self,
            frames,
            known: 0,
            line: Line::default(),
            image: [0; PATH],
            image_length: 0,
            base: 0,
            number: 0,
        }
    }

    pub(crate) fn done(&self) {
        self.set_state(DONE);
    }

    pub(crate) fn is_done(&self) -> bool {
        (self.word)(STATE).is_none_or(|word| word.load(Acquire) & DONE != 0)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// The longest path that is kept, in bytes.
const PATH: usize = NAME * 8;

/// A line of the kernel's list: `start-end perms offset device inode path`.
#[derive(Clone, Copy)]
struct Line {
    /// Start, end, permissions, offset, device, inode, path.
    field: u8,
    start: usize,
    end: usize,
    offset: usize,
    path: [u8; PATH],
    length: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { field: 0, start: 0, end: 0, offset: 0, path: [0; PATH], length: 0 }
    }
}

impl Line {
    fn take(&mut self, byte: u8) {
        let hex = |number: usize| {
            let digit = char::from(byte).to_digit(16).unwrap_or(0);
            number.wrapping_shl(4) | digit as usize
        };
        match (self.field, byte) {
            (0, b'-') | (1..=4, b' ') => self.field += 1,
            (0, _) => self.start = hex(self.start),
            (1, _) => self.end = hex(self.end),
            (3, _) => self.offset = hex(self.offset),
            (2 | 4, _) => {}
            // The inode and the padding behind it.
            (5, b'/' | b'[') => {
                self.field = 6;
                self.push(byte);
            }
            (5, _) => {}
            (_, _) => self.push(byte),
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.path.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

/// Finds the images of frames in the kernel's list, which it is given byte by byte.
pub(crate) struct Images<'a> {
    log: &'a Log,
    frames: &'a [usize],
    /// How many images have a name in the log.
    known: usize,
    line: Line,
    /// The one that the last line was about, and where it begins.
    image: [u8; PATH],
    image_length: usize,
    base: usize,
    /// Its number in the log, from 1; zero while it has none.
    number: usize,
}

impl Images<'_> {
    pub(crate) fn take(&mut self, byte: u8) {
        if byte == b'\n' {
            self.end_line();
            self.line = Line::default();
        } else {
            self.line.take(byte);
        }
    }

    fn end_line(&mut self) {
        let Line { start, end, offset, path, length, .. } = self.line;
        if length == 0 || path[0] != b'/' {
            return;
        }
        if path[..length] != self.image[..self.image_length] {
            (self.image, self.image_length, self.number) = (path, length, 0);
            self.base = start.wrapping_sub(offset);
        }
        for (index, at) in self.frames.iter().enumerate().filter(|(_, at)| (start..end).contains(*at)) {
            if self.number == 0 && self.known < IMAGES {
                self.write_name();
            }
            if self.number > 0 {
                self.log.store(FRAME + 2 * index, at.wrapping_sub(self.base) as u64);
                self.log.store(FRAME + 2 * index + 1, self.number as u64);
            }
        }
    }

    fn write_name(&mut self) {
        let at = IMAGE + self.known * (NAME + 1);
        for (index, bytes) in self.image[..self.image_length].chunks(8).enumerate() {
            let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.log.store(at + 1 + index, word);
        }
        self.log.store(at, self.image_length as u64);
        self.known += 1;
        self.number = self.known;
    }
}
// Up to here.

/// Where a process was when it crashed: the calls on the stack of the thread that failed.
///
/// Its text names functions, files and lines as far as this program has them: that takes debug information
/// (`debug = "line-tables-only"` for lines), and is looked for when the text is made, not before: the first time may take a
/// good part of a second. Of an image that is not loaded here it gives the path and the offset, for `addr2line`.
#[derive(Clone, PartialEq, Eq)]
pub struct Crash {
    signal: i32,
    complete: bool,
    overflowed: bool,
    address: Option<u64>,
    thread: String,
    mark: u64,
    frames: Vec<(u64, Option<usize>)>,
    images: Vec<String>,
}

impl Crash {
    /// What was written to the words of a log; `None` when there was no fault.
    pub fn read<'a>(word: impl Fn(usize) -> &'a AtomicU64) -> Option<Crash> {
        let load = |index: usize| word(index).load(Relaxed);
        let state = word(STATE).load(Acquire);
        let signal = i32::from(state.to_le_bytes()[0]);
        if signal == 0 {
            return None;
        }
        let count = usize::try_from(load(COUNT)).map_or(0, |count| count.min(FRAMES));
        let image =
            |number: u64| usize::try_from(number).ok()?.checked_sub(1).filter(|number| *number < IMAGES);
        let frame = |index: usize| (load(FRAME + 2 * index), image(load(FRAME + 2 * index + 1)));
        let name = |number: usize| {
            let at = IMAGE + number * (NAME + 1);
            let length = usize::try_from(load(at)).map_or(0, |length| length.min(PATH));
            let bytes: Vec<u8> = (1..=NAME).flat_map(|index| load(at + index).to_le_bytes()).collect();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let thread: Vec<u8> =
            [load(THREAD), load(THREAD + 1)].into_iter().flat_map(u64::to_le_bytes).collect();
        Some(Crash {
            signal,
            complete: state & DONE != 0,
            overflowed: state & OVERFLOWED != 0,
            address: (state & HAS_ADDRESS != 0).then(|| load(ADDRESS)),
            thread: String::from_utf8_lossy(&thread).trim_end_matches('\0').to_owned(),
            mark: load(MARK),
            frames: (0..count).map(frame).collect(),
            images: (0..IMAGES).map(name).collect(),
        })
    }

    /// The signal of the fault. The process may have ended by another one, which a handler of its own raised.
    #[must_use]
    pub fn signal(&self) -> i32 {
        self.signal
    }

    /// False when the process died while it was looking at its stack.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the stack was full: the fault was next to the stack pointer.
    #[must_use]
    pub fn overflowed_stack(&self) -> bool {
        self.overflowed
    }

    /// The address that could not be used, of a fault of memory; of an instruction that could not be run, its own. `None` of a signal that
    /// was sent, as `abort` does.
    #[must_use]
    pub fn address(&self) -> Option<u64> {
        self.address
    }

    /// The name of the thread, as far as the kernel keeps it: 15 bytes.
    #[must_use]
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// What the process noted beside it.
    #[doc(hidden)]
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// The calls on the stack, the one that failed first; at most 64, and those that were inlined into them.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        let here = images_here();
        let frames = |(at, image): &(u64, Option<usize>)| {
            let image = image.and_then(|image| self.images.get(image)).cloned();
            let base = image.as_ref().and_then(|image| here.get(image.as_str()));
            let address = base.and_then(|base| base.checked_add(*at));
            let bare = Frame { offset: *at, image, function: None, file: None, line: None };
            match address.and_then(|address| usize::try_from(address).ok()) {
                Some(address) => bare.resolved(address),
                None => vec![bare],
            }
        };
        self.frames.iter().flat_map(frames).collect()
    }
}

/// One call on the stack of a [`Crash`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// The file of the program or library in which the code lies, if it lies in one.
    pub image: Option<String>,
    /// Where in it, from the beginning of its first mapping; without an image, the address in the process that died.
    pub offset: u64,
    /// The function, if its name is known here. One that was inlined into another has a frame of its own, at the same offset.
    pub function: Option<String>,
    /// The file of its source.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

impl Frame {
    /// With what is known of `address`: a frame for each function that was inlined there, the innermost first.
    fn resolved(self, address: usize) -> Vec<Frame> {
        let mut found = Vec::new();
        // One is subtracted there, for addresses of returns; ours is inside of the instruction already.
        backtrace::resolve((address + 1) as *mut std::ffi::c_void, |symbol| {
            found.push(Frame {
                // Without the hash at its end.
                function: symbol.name().map(|name| format!("{name:#}")),
                file: symbol.filename().map(|file| file.display().to_string()),
                line: symbol.lineno(),
                ..self.clone()
            });
        });
        if found.is_empty() { vec![self] } else { found }
    }
}

/// Where each image is loaded in this process.
fn images_here() -> HashMap<String, u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut here = HashMap::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(range), _, Some(offset)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = fields.nth(2).unwrap_or_default().trim_start();
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let start = range.split_once('-').and_then(|(start, _)| number(start));
        if let (true, Some(start), Some(offset)) = (path.starts_with('/'), start, number(offset)) {
            // As long as what a log keeps of it.
            let mut length = path.len().min(PATH);
            while !path.is_char_boundary(length) {
                length -= 1;
            }
            here.entry(path[..length].to_owned()).or_insert(start.wrapping_sub(offset));
        }
    }
    here
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, &self.image) {
            (Some(function), _) => f.write_str(function)?,
            (None, Some(image)) => write!(f, "{image}+{:#x}", self.offset)?,
            (None, None) => write!(f, "{:#x}", self.offset)?,
        }
        if let Some(file) = &self.file {
            write!(f, "\n             at {file}")?;
            self.line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames().iter().enumerate() {
            writeln!(f, "{number:>4}: {frame}")?;
        }
        if !self.complete {
            f.write_str("      (cut short)\n")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frames = String::new();
        write!(frames, "{self}")?;
        f.debug_struct("Crash")
            .field("signal", &self.signal)
            .field("thread", &self.thread)
            .field("address", &self.address)
            .field("frames", &frames.lines().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
