//! A file of who ran what when, as `chrome://tracing` and <https://ui.perfetto.dev> read it.
//!
//! The format's array form: a reader accepts a file that ends in the middle of the array, so one that was cut off by a death is good as
//! far as it goes.

use crate::observe::Event;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Trace {
    file: BufWriter<File>,
    first: bool,
    broken: bool,
}

impl Trace {
    pub(crate) fn create(path: &Path) -> io::Result<Trace> {
        let file = File::create(path)
            .map_err(|error| io::Error::new(error.kind(), format!("create `{}`: {error}", path.display())))?;
        Ok(Trace { file: BufWriter::new(file), first: true, broken: false })
    }

    /// A disk that is full ends the trace, not the pool.
    pub(crate) fn write(&mut self, event: &Event) {
        if !self.broken {
            self.broken = self.try_write(event).is_err();
        }
    }

    fn try_write(&mut self, event: &Event) -> io::Result<()> {
        let process = std::process::id();
        match event {
            Event::Ran { function, worker, pid, born, started, ran, error } => {
                self.separate()?;
                write!(
                    self.file,
                    "{{\"ph\":\"X\",\"pid\":{process},\"tid\":{pid},\"cat\":\"task\",\"name\":"
                )?;
                self.text(function)?;
                let waited = started.saturating_sub(*born);
                write!(self.file, ",\"ts\":{}", Micros(*started))?;
                write!(self.file, ",\"dur\":{},\"args\":{{\"worker\":{worker}", Micros(*ran))?;
                write!(self.file, ",\"waited_us\":{}", Micros(waited))?;
                if let Some(error) = error {
                    self.file.write_all(b",\"error\":")?;
                    self.text(error)?;
                }
                self.file.write_all(b"}}")
            }
            Event::Started { worker, pid } => {
                self.separate()?;
                write!(self.file, "{{\"ph\":\"M\",\"pid\":{process},\"tid\":{pid},\"name\":\"thread_name\"")?;
                write!(self.file, ",\"args\":{{\"name\":\"worker {worker} ({pid})\"}}}}")
            }
            Event::Ended { pid, why, .. } => {
                let now = Micros(crate::control::now());
                self.separate()?;
                write!(
                    self.file,
                    "{{\"ph\":\"i\",\"s\":\"t\",\"pid\":{process},\"tid\":{pid},\"ts\":{now},\"name\":"
                )?;
                self.text(why)?;
                self.file.write_all(b"}")
            }
            Event::Unread(_) => Ok(()),
        }
    }

    fn separate(&mut self) -> io::Result<()> {
        let before: &[u8] = if std::mem::take(&mut self.first) { b"[\n" } else { b",\n" };
        self.file.write_all(before)
    }

    /// A JSON string.
    fn text(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(b"\"")?;
        for letter in text.chars() {
            match letter {
                '"' | '\\' => write!(self.file, "\\{letter}")?,
                letter if letter.is_control() => write!(self.file, "\\u{:04x}", u32::from(letter))?,
                letter => write!(self.file, "{letter}")?,
            }
        }
        self.file.write_all(b"\"")
    }

    pub(crate) fn finish(mut self) {
        let end: &[u8] = if self.first { b"[]\n" } else { b"\n]\n" };
        // A disk that is full ends the trace, not the pool.
        let _ = self.file.write_all(end).and_then(|()| self.file.flush());
    }
}

/// Nanoseconds, shown as microseconds.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
