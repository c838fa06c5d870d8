//! A second process for a test: the test binary again, for that one test, in a role.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

const ROLE: &str = "MP_TEST_ROLE";
const WORD: &str = "mp-test: ";

/// The role this process was started in; `None` in the test itself.
#[must_use]
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A command that starts this test binary for the test `test` (its full path in the binary) in `role`.
///
/// # Panics
///
/// When this program's own path is not known.
#[must_use]
pub fn command(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"]).env(ROLE, role);
    command
}

/// In a role: tells the test that something was reached.
///
/// # Panics
///
/// When the test's end is closed.
pub fn say(word: &str) {
    // Past the capture of the test harness, and in one write.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{WORD}{word}\n").as_bytes()).expect("say");
    out.flush().expect("say");
}

/// In a role: waits for a word of the test; `None` when the test has closed its end or died.
#[must_use]
pub fn hear() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().to_owned()),
    }
}

/// A process in a role; killed and waited for when dropped.
#[derive(Debug)]
pub struct Role {
    child: Child,
    words: BufReader<ChildStdout>,
    ear: Option<ChildStdin>,
}

impl Role {
    /// Starts `command` (see [`command`]).
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Role {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a role");
        let words = BufReader::new(child.stdout.take().expect("piped"));
        let ear = child.stdin.take();
        Role { child, words, ear }
    }

    /// The next word of the process; `None` when it has ended.
    pub fn word(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.words.read_line(&mut line) {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            if let Some(word) = line.trim_end().strip_prefix(WORD) {
                return Some(word.to_owned());
            }
        }
    }

    /// Waits until the process says `word`.
    ///
    /// # Panics
    ///
    /// When it says another one, or ends.
    pub fn expect(&mut self, word: &str) {
        assert_eq!(self.word().as_deref(), Some(word));
    }

    /// Tells the process a word.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn tell(&mut self, word: &str) {
        let ear = self.ear.as_mut().expect("not closed before");
        ear.write_all(format!("{word}\n").as_bytes()).expect("tell");
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended; waits for nothing.
    ///
    /// # Panics
    ///
    /// When that cannot be known.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("kill");
        self.wait()
    }

    /// Closes the ear of the process and waits until it has ended.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> ExitStatus {
        drop(self.ear.take());
        self.child.wait().expect("wait")
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
