//! Counts the words of all text files below the given paths with a pool of processes.
//!
//! `wordcount [--sequential] PATH...` prints the twenty most frequent words to standard output as `COUNT WORD` lines, and nothing else
//! there. A word is a longest run of letters and digits, in lower case. Files that cannot be read or are not UTF-8 are named on
//! standard error and passed over; elapsed time and peak memory go there as well.
//!
//! Files are read in pieces by the workers, and each worker's answer is the counts of one piece, so no process holds more than a few
//! pieces at a time however large the tree is.

use indicatif::{ProgressBar, ProgressStyle};
use multiprocess::Pool;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How much of a file one task reads.
const PIECE: u64 = 256 << 10;
/// A run of letters may be longer than a piece; beyond this it is cut.
const LONGEST_WORD: usize = 4 << 10;
/// Small files are handed out together until they have this many bytes: a task costs more than a small file.
const BATCH: u64 = 512 << 10;
const TOP: usize = 20;

type Counts = HashMap<String, u64>;

/// A piece of a file: its words are those that begin in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Piece {
    path: PathBuf,
    start: u64,
    end: u64,
}

/// What came of some pieces.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    counts: Counts,
    /// Files that were passed over, and why.
    passed_over: Vec<(PathBuf, String)>,
}

fn count_pieces(pieces: Vec<Piece>) -> Tally {
    let mut tally = Tally::default();
    for piece in pieces {
        let mut counts = Counts::new();
        match count_piece(&piece, &mut counts) {
            Ok(()) => merge(&mut tally.counts, counts),
            Err(error) => tally.passed_over.push((piece.path, error.to_string())),
        }
    }
    tally
}

fn merge(into: &mut Counts, from: Counts) {
    for (word, count) in from {
        *into.entry(word).or_default() += count;
    }
}

/// Counts the words that begin in the piece.
fn count_piece(piece: &Piece, counts: &mut Counts) -> io::Result<()> {
    let mut file = File::open(&piece.path)?;
    // One character before, to see whether a word goes on into the piece; and behind it, for the word that goes out of it.
    let from = piece.start.saturating_sub(4);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    let most = piece.end - from + LONGEST_WORD as u64;
    file.take(most).read_to_end(&mut bytes)?;
    let to_the_end = (bytes.len() as u64) < most;
    let start = usize::try_from(piece.start - from).map_err(io::Error::other)?;
    let end = usize::try_from(piece.end - from).map_err(io::Error::other)?.min(bytes.len());
    let first = boundary(&bytes, 0);
    let text = whole_text(&bytes[first..], if to_the_end { usize::MAX } else { end.saturating_sub(first) })?;
    let (start, end) = (start.saturating_sub(first), end.saturating_sub(first));
    let mut word = String::new();
    let mut began = 0;
    let mut inside = false;
    for (at, character) in text.char_indices() {
        if character.is_alphanumeric() {
            if !inside {
                (inside, began) = (true, at);
                word.clear();
            }
            if word.len() < LONGEST_WORD / 2 {
                word.extend(character.to_lowercase());
            }
            continue;
        }
        if inside && (start..end).contains(&began) {
            *counts.entry(std::mem::take(&mut word)).or_default() += 1;
        }
        inside = false;
        if at >= end {
            break;
        }
    }
    if inside && (start..end).contains(&began) {
        *counts.entry(word).or_default() += 1;
    }
    Ok(())
}

/// The first place at or behind `at` where a character begins.
fn boundary(bytes: &[u8], at: usize) -> usize {
    (at..bytes.len().min(at + 4)).find(|&at| bytes[at] & 0xc0 != 0x80).unwrap_or(at.min(bytes.len()))
}

/// The text of `bytes`, which must be valid up to `needed`; what follows may be cut inside a character.
fn whole_text(bytes: &[u8], needed: usize) -> io::Result<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.valid_up_to() >= needed => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).map_err(io::Error::other)
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")),
    }
}

/// Whether all of the file is UTF-8, read in pieces: a file is counted whole or not at all.
fn is_text(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        let filled = kept + read;
        match std::str::from_utf8(&buffer[..filled]) {
            Ok(_) => kept = 0,
            Err(error) if error.error_len().is_none() && read > 0 => {
                buffer.copy_within(error.valid_up_to()..filled, 0);
                kept = filled - error.valid_up_to();
            }
            Err(_) => return Ok(false),
        }
        if read == 0 {
            return Ok(kept == 0);
        }
    }
}

/// All regular files below `path`, in a fixed order; what cannot be listed is named and passed over.
struct Walk {
    left: Vec<PathBuf>,
}

impl Iterator for Walk {
    type Item = (PathBuf, u64);

    fn next(&mut self) -> Option<(PathBuf, u64)> {
        while let Some(path) = self.left.pop() {
            let seen = fs::symlink_metadata(&path).and_then(|meta| {
                if !meta.is_dir() {
                    return Ok((meta, Vec::new()));
                }
                let mut entries =
                    fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
                entries.sort_by(|a, b| b.cmp(a));
                Ok((meta, entries))
            });
            match seen {
                Ok((meta, _)) if meta.is_file() => return Some((path, meta.len())),
                Ok((_, entries)) => self.left.extend(entries),
                Err(error) => eprintln!("passed over: {}: {error}", path.display()),
            }
        }
        None
    }
}

/// Groups files into tasks of about the same size; large files are cut into pieces.
fn tasks(paths: Vec<PathBuf>) -> impl Iterator<Item = Vec<Piece>> {
    let mut walk = Walk { left: paths.into_iter().rev().collect() };
    let mut cut: Vec<Piece> = Vec::new();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut size = 0;
        while size < BATCH {
            if let Some(piece) = cut.pop() {
                size += piece.end - piece.start;
                batch.push(piece);
                continue;
            }
            let Some((path, length)) = walk.next() else { break };
            // A small file is read whole by its task, which sees for itself.
            match if length <= PIECE { Ok(true) } else { is_text(&path) } {
                Ok(true) => cut.extend(pieces(&path, length).rev()),
                Ok(false) => eprintln!("passed over: {}: not UTF-8", path.display()),
                Err(error) => eprintln!("passed over: {}: {error}", path.display()),
            }
        }
        (!batch.is_empty()).then_some(batch)
    })
}

fn pieces(path: &Path, length: u64) -> impl DoubleEndedIterator<Item = Piece> {
    (0..length.div_ceil(PIECE)).map(move |number| {
        let start = number * PIECE;
        Piece { path: path.to_owned(), start, end: length.min(start + PIECE) }
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let start = Instant::now();
    let (options, paths): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let sequential = options.iter().any(|option| option == "--sequential");
    if paths.is_empty() || options.iter().any(|option| option != "--sequential") {
        return Err("usage: wordcount [--sequential] PATH...".into());
    }
    let tasks = tasks(paths.into_iter().map(PathBuf::from).collect());
    let bar = progress();
    let mut counts = Counts::new();
    let mut peak = 0;
    let mut take = |tally: Tally| {
        for (path, why) in tally.passed_over {
            bar.suspend(|| eprintln!("passed over: {}: {why}", path.display()));
        }
        merge(&mut counts, tally.counts);
        bar.inc(1);
    };
    if sequential {
        tasks.map(count_pieces).for_each(&mut take);
    } else {
        let pool = Pool::builder().build()?;
        for tally in pool.imap_unordered(count_pieces, tasks) {
            take(tally?);
        }
        for _ in 0..pool.workers() {
            peak = peak.max(pool.apply(peak_memory, ())?);
        }
        pool.close();
        pool.join()?;
    }
    bar.finish_and_clear();
    print_top(&counts)?;
    peak = peak.max(peak_memory());
    eprintln!("{:.2?}, at most {} MiB in one process", start.elapsed(), peak >> 10);
    Ok(())
}

/// On a terminal only.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} tasks, {per_sec}, {elapsed}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn print_top(counts: &Counts) -> io::Result<()> {
    let mut words: Vec<(&String, &u64)> = counts.iter().collect();
    words.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let mut out = io::stdout().lock();
    for (word, count) in words.into_iter().take(TOP) {
        writeln!(out, "{count} {word}")?;
    }
    Ok(())
}

/// The most memory this process ever had, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
