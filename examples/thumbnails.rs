//! Makes a small picture of each picture in a directory, with a pool of processes and a progress bar.
//!
//! `thumbnails FROM TO` reads every file of `FROM` and writes a PNG of at most 128 by 128 pixels for each into `TO`. Without arguments it
//! draws pictures of its own first, and puts two among them that no program wants to meet: one that is cut off in the middle, and one
//! whose header claims more pixels than a worker may have memory for. Each of them fails alone.

use image::{ImageFormat, ImageReader, Rgb, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use multiprocess::pool::{Cause, TaskError};
use multiprocess::{Pool, RemoteError};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, process};

/// The longer side of a small picture.
const SIDE: u32 = 128;
/// What a worker may have, its code and libraries included.
const MEMORY: u64 = 1 << 30;
/// So many pictures that are as they should be.
const GOOD: u32 = 48;

/// Makes the small picture of `from`, and tells the size of the large one.
fn thumbnail((from, to): (PathBuf, PathBuf)) -> Result<(u32, u32), RemoteError> {
    let mut reader = ImageReader::open(from)?.with_guessed_format()?;
    // The decoder's own limits are guesses at what this machine can bear; the pool's are what it can.
    reader.no_limits();
    let picture = reader.decode()?;
    picture.thumbnail(SIDE, SIDE).save_with_format(to, ImageFormat::Png)?;
    Ok((picture.width(), picture.height()))
}

/// A directory for the time of this program.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let path = env::temp_dir().join(format!("thumbnails-{}", process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    fn sub(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody to tell; what is left lies in the system's directory for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Draws one picture.
fn draw(path: PathBuf, number: u32) -> Result<(), RemoteError> {
    let (width, height) = (640 + 16 * number, 480 + 8 * number);
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let wave = (x * number / 7) ^ (y * (number + 3) / 5);
        Rgb([wave, x, y].map(|value| value.to_le_bytes()[0]))
    });
    picture.save(path)?;
    Ok(())
}

/// Draws the pictures, two of them bad.
fn draw_all(directory: &Path, pool: &Pool) -> Result<(), Box<dyn Error>> {
    let extensions = ["png", "jpg", "bmp"];
    let name = |n: u32| directory.join(format!("{n:02}.{}", extensions[n as usize % extensions.len()]));
    for drawn in pool.starmap(draw, (0..GOOD).map(|n| (name(n), n)))? {
        drawn?;
    }
    let whole = fs::read(name(0))?;
    fs::write(directory.join("cut off.png"), &whole[..whole.len() / 2])?;
    let mut header = fs::read(name(2))?;
    header.truncate(64);
    // Width and height of a BMP.
    header[18..22].copy_from_slice(&40_000_u32.to_le_bytes());
    header[22..26].copy_from_slice(&40_000_u32.to_le_bytes());
    fs::write(directory.join("bomb.bmp"), header)?;
    Ok(())
}

/// What came of all pictures.
struct Outcome {
    done: usize,
    failed: Vec<(PathBuf, Failure)>,
}

/// Makes all small pictures.
fn shrink(pool: &Pool, from: &Path, to: &Path) -> Result<Outcome, Box<dyn Error>> {
    let mut paths = fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let bar = ProgressBar::new(paths.len() as u64)
        .with_style(ProgressStyle::with_template("{bar:40} {pos} of {len} pictures, {per_sec}")?);
    let tasks = paths.iter().map(|path| (path.clone(), target(to, path)));
    let results = pool.task(thumbnail).timeout(Duration::from_secs(30)).progress(bar.clone()).imap(tasks);
    let mut pixels = 0;
    let mut failed = Vec::new();
    for (path, result) in paths.iter().zip(results) {
        match result {
            Ok(Ok((width, height))) => pixels += u64::from(width) * u64::from(height),
            Ok(Err(error)) => failed.push((path.clone(), Failure::Picture(error))),
            Err(error) => failed.push((path.clone(), Failure::Task(error))),
        }
    }
    bar.finish();
    let done = paths.len() - failed.len();
    println!("{done} small pictures of {} megapixels", pixels / 1_000_000);
    Ok(Outcome { done, failed })
}

/// Why there is no small picture.
enum Failure {
    /// The decoder said so.
    Picture(RemoteError),
    /// The worker could not go on.
    Task(TaskError),
}

/// As the picture is called, and `.png`: two that differ in their ending only have a small picture each.
fn target(to: &Path, picture: &Path) -> PathBuf {
    let mut name = picture.file_name().unwrap_or_default().to_owned();
    name.push(".png");
    to.join(name)
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let pool = Pool::builder().memory_limit(MEMORY).build()?;
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let (scratch, from, to) = match &arguments[..] {
        [] => {
            let scratch = Scratch::new()?;
            let (from, to) = (scratch.sub("from")?, scratch.sub("to")?);
            draw_all(&from, &pool)?;
            (Some(scratch), from, to)
        }
        [from, to] => (None, from.clone(), to.clone()),
        _ => return Err("usage: thumbnails [FROM TO]".into()),
    };
    let Outcome { done, failed } = shrink(&pool, &from, &to)?;
    for (path, failure) in &failed {
        match failure {
            Failure::Picture(error) => println!("{}: {error}", path.display()),
            Failure::Task(error) => println!("{}: {error}", path.display()),
        }
    }
    pool.close();
    pool.join()?;
    if scratch.is_some() {
        let [
            (_, Failure::Task(TaskError::WorkerDied { cause: Cause::Memory, .. })),
            (_, Failure::Picture(_)),
        ] = &failed[..]
        else {
            return Err("the two bad pictures were to fail, each in its own way".into());
        };
        assert_eq!(done, GOOD as usize);
        assert_eq!(fs::read_dir(&to)?.count(), GOOD as usize);
    }
    Ok(())
}
