//! Packages of their own, built by cargo while the tests run. They lie below the tests' directory for files and share one target
//! directory there, so that what they depend on is built once.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A package with this crate as its dependency.
pub(crate) struct Package {
    root: PathBuf,
}

impl Package {
    /// The package `name`; `more` is added to its manifest.
    pub(crate) fn new(name: &str, more: &str) -> Package {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
             [dependencies]\nmp-process = {{ path = {CRATE:?} }}\n\
             [profile.dev]\ndebug = false\n\
             [profile.whole]\ninherits = \"release\"\nlto = \"fat\"\nstrip = true\npanic = \"abort\"\nopt-level = 1\n{more}\n"
        );
        put(&root.join("Cargo.toml"), manifest.as_bytes());
        // The versions that are there, so that nothing is looked up.
        if !root.join("Cargo.lock").exists() {
            put(&root.join("Cargo.lock"), &fs::read(Path::new(CRATE).join("../../Cargo.lock")).unwrap());
        }
        Package { root }
    }

    /// Copies what is in `from`, a directory beside the tests, to `to` in the package.
    pub(crate) fn with(self, from: &str, to: &str) -> Package {
        for source in fs::read_dir(Path::new(CRATE).join("tests").join(from)).unwrap() {
            let source = source.unwrap().path();
            put(&self.root.join(to).join(source.file_name().unwrap()), &fs::read(&source).unwrap());
        }
        self
    }

    /// `cargo verb …` in the package.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).args(["--offline", "--color=never"]).current_dir(&self.root);
        command.env("CARGO_TERM_QUIET", "true");
        command.env("CARGO_TARGET_DIR", self.target());
        command
    }

    fn target(&self) -> PathBuf {
        self.root.parent().unwrap().join("target")
    }

    /// Builds the program `name`.
    pub(crate) fn build(&self, name: &str) -> (PathBuf, Output) {
        let output = self.cargo(&["build", "--bin", name]).output().unwrap();
        (self.target().join("debug").join(name), output)
    }

    /// Takes `source`, a program beside the tests, in under the name `name`.
    fn take_in(&self, source: &str, name: &str) {
        let text = fs::read(Path::new(CRATE).join("tests").join(source)).unwrap();
        put(&self.root.join("src/bin").join(name).with_extension("rs"), &text);
    }

    /// Builds `source` under the name `name` in the profile `whole`.
    pub(crate) fn build_whole(&self, source: &str, name: &str) -> PathBuf {
        self.take_in(source, name);
        expect_success(&mut self.cargo(&["build", "--profile", "whole", "--bin", name]));
        self.target().join("whole").join(name)
    }

    /// Builds `source`, a program beside the tests, under the name `name` with `flags` for the compiler.
    pub(crate) fn build_with(&self, flags: &str, source: &str, name: &str) -> PathBuf {
        // Under a name of its own: what was built with other flags lies beside it.
        self.take_in(source, name);
        let all = format!("{} {flags}", std::env::var("RUSTFLAGS").unwrap_or_default());
        // A named target has its flags for itself: macros and build scripts are built as ever, and once.
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut command = self.cargo(&["build", "--target", &target, "--bin", name]);
        expect_success(command.env("RUSTFLAGS", all));
        self.target().join(target).join("debug").join(name)
    }
}

/// Written in one step, so that tests in other processes and threads never see half of it; untouched when it is there already.
fn put(path: &Path, bytes: &[u8]) {
    // Tests may be threads of one process: each has a draft of its own.
    static DRAFTS: AtomicUsize = AtomicUsize::new(0);
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let draft = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{draft}.draft", std::process::id()));
    fs::write(&draft, bytes).unwrap();
    fs::rename(draft, path).unwrap();
}

/// Runs `command`, which must succeed; what it said on standard output.
pub(crate) fn expect_success(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
