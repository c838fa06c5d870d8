//! Running other programs: cargo with the right directories, under a time-out, with the output kept.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::outcome::Failure;

/// How long output may stay open after its command has ended, before that counts as a process left behind.
const GRACE: Duration = Duration::from_secs(10);

/// The workspace's top directory.
pub(crate) fn root() -> PathBuf {
    // The variable is right even when the build directory is shared between two clones; the constant is not.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where this run of cargo builds: `CARGO_TARGET_DIR`, else `target`.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A file or directory of our own below the build directory; its parent exists afterwards.
pub(crate) fn scratch(name: &str) -> io::Result<PathBuf> {
    let path = target_dir().join("xtask").join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(path)
}

/// `cargo` with these arguments (split at blanks), from the top directory.
pub(crate) fn cargo(args: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args.split_whitespace()).current_dir(root());
    command
}

/// The same with the cargo of another toolchain.
pub(crate) fn cargo_of(toolchain: &str, args: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo"]).args(args.split_whitespace()).current_dir(root());
    command
}

/// Adds to `RUSTFLAGS` and builds in a directory of its own, so that the plain build is not thrown away.
pub(crate) fn flavoured(mut command: Command, flags: &str, dir: &str) -> Command {
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{given} {flags}").trim());
    command.env("CARGO_TARGET_DIR", target_dir().join(dir));
    command
}

/// Whether this command runs and succeeds; its output is dropped.
pub(crate) fn works(mut command: Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What a command prints on its standard output.
pub(crate) fn stdout_of(mut command: Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} of {}", output.status, words(&command)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs with our own output, after saying what is run.
pub(crate) fn run(mut command: Command) -> Result<(), Failure> {
    println!("$ {}", words(&command));
    let status = command.status().map_err(|error| format!("{}: {error}", words(&command)))?;
    if status.success() { Ok(()) } else { Err(format!("{status} of {}", words(&command)).into()) }
}

/// What a command printed, both streams in one, and how it ended.
pub(crate) struct Recorded {
    pub(crate) status: ExitStatus,
    pub(crate) text: String,
}

/// Runs and keeps the output; with `echo` it is shown while it comes.
pub(crate) fn record(mut command: Command, echo: bool) -> Result<Recorded, Failure> {
    let what = words(&command);
    println!("$ {what}");
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().map_err(|error| format!("{what}: {error}"))?;
    drop(command); // it holds the writing ends: without this the reader never sees the end

    let (lines, from_reader) = mpsc::channel();
    thread::spawn(move || read_lines(reader, echo, &lines));
    let status = child.wait()?;
    let mut text = String::new();
    loop {
        match from_reader.recv_timeout(GRACE) {
            Ok(line) => text.push_str(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(Recorded { status, text }),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!("{what} ended, but a process that it left holds its output").into());
            }
        }
    }
}

fn read_lines(from: io::PipeReader, echo: bool, to: &mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).into_owned();
        if echo {
            let mut out = io::stdout().lock();
            // Nobody reading us is no reason to stop the tests.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
        if to.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

/// Runs with all output in `log`, and kills after `limit`. The failure carries the end of the log.
pub(crate) fn run_limited(mut command: Command, log: &Path, limit: Duration) -> Result<(), Failure> {
    let file = File::create(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().map_err(|error| format!("{}: {error}", words(&command)))?;
    let ended = match wait_limited(child, limit)? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => format!("killed after {} s", limit.as_secs()),
    };
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(40)..].join("\n    ");
    Err(format!("{ended}; its last lines:\n    {tail}").into())
}

/// Waits for the child; `None` when it had to be killed.
fn wait_limited(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
    let id = child.id();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Fails only when nobody listens any more.
        let _ = tell.send(child.wait());
    });
    if let Ok(status) = told.recv_timeout(limit) {
        return Ok(Some(status?));
    }
    // The waiter owns the child, so the kill goes by number. Were the child to end between the line above and the kill,
    // the number would have to be given out again in that moment to hit another.
    let killed = if cfg!(windows) {
        Command::new("taskkill").args(["/F", "/PID", &id.to_string()]).status()?
    } else {
        // The shell's own: a small system has no program of that name.
        Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status()?
    };
    let status = told.recv().map_err(|error| error.to_string())??;
    // It may have ended by itself at the very last moment.
    Ok(if killed.success() { None } else { Some(status) })
}

/// The command as one would type it.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let mut text = String::new();
    for (name, value) in command.get_envs() {
        if let (Some("RUSTFLAGS" | "RUSTDOCFLAGS"), Some(value)) = (name.to_str(), value) {
            text.push_str(&format!("{}='{}' ", name.display(), value.display()));
        }
    }
    text.push_str(&program.to_string_lossy());
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn record_keeps_both_streams_and_the_status() {
        let recorded = record(shell("echo out; echo err >&2; exit 3"), false).unwrap();
        assert_eq!(recorded.text, "out\nerr\n");
        assert_eq!(recorded.status.code(), Some(3));
    }

    #[test]
    fn run_limited_kills_what_hangs_and_shows_what_it_said() {
        let log = scratch("hangs.txt").unwrap();
        let failure =
            run_limited(shell("echo hello; exec tail -f /dev/null"), &log, Duration::from_millis(200));
        let text = failure.unwrap_err().to_string();
        assert!(text.starts_with("killed after"), "{text}");
    }

    #[test]
    fn run_limited_passes_and_fails_with_the_status() {
        let log = scratch("ends.txt").unwrap();
        run_limited(shell("exit 0"), &log, Duration::from_secs(60)).unwrap();
        let text =
            run_limited(shell("echo why; exit 7"), &log, Duration::from_secs(60)).unwrap_err().to_string();
        assert!(text.contains('7') && text.contains("why"), "{text}");
    }
}
